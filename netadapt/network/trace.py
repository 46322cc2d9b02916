"""Record which tensor operations a network executes, as a flat list with the data flow between them.

Recording happens below autograd, where any Python control flow has already been resolved, so it works for every
module that can run. It sees what really runs, not what a graph compiler understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Value number of the network's input.
NETWORK_INPUT = 0


@dataclass(frozen=True)
class TracedOp:
    """One executed operation whose operands depend on the network's input.

    `arguments` maps the names of the operation's schema to values; a tensor is replaced by its shape.
    `inputs` and `output` are value numbers: equal numbers are the same tensor.
    """

    name: str
    inputs: tuple[int, ...]
    in_shapes: tuple[tuple[int, ...], ...]
    output: int
    out_shape: tuple[int, ...]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """Executed operations in order, the value numbers of the network's outputs, and the outputs themselves."""

    ops: tuple[TracedOp, ...]
    outputs: tuple[int, ...]
    result: tuple[Tensor, ...]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, example_input: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[TracedOp] = []
        self.numbers: dict[int, int] = {id(example_input): NETWORK_INPUT}
        # A freed tensor's id would be given to another one, which would then look like the same value.
        self._alive: list[Tensor] = [example_input]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = [operand for operand in tensors((*args, *kwargs.values())) if id(operand) in self.numbers]
        inputs = tuple(self.numbers[id(operand)] for operand in operands)
        in_shapes = tuple(tuple(operand.shape) for operand in operands)
        result = func(*args, **kwargs)
        if inputs:
            self._record(func, args, kwargs, inputs, in_shapes, result)
        return result

    def _record(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: tuple[int, ...],
        in_shapes: tuple[tuple[int, ...], ...],
        result: Any,
    ) -> None:
        outputs = tensors((result,))
        if not outputs:
            return
        names = [argument.name for argument in func._schema.arguments]
        arguments = dict(zip(names, map(_without_tensors, args), strict=False))
        arguments.update({name: _without_tensors(value) for name, value in kwargs.items()})
        number = len(self._alive)
        for output in outputs:
            self.numbers[id(output)] = number
            self._alive.append(output)
        # An in-place operation computes what its out-of-place twin does.
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        self.ops.append(TracedOp(name, inputs, in_shapes, number, tuple(outputs[0].shape), arguments))


def trace(module: nn.Module, example_input: Tensor) -> Trace:
    """Run `module` once on `example_input` `[N, C, H, W]` in evaluation mode and record what it executes."""
    image = example_input.clone()  # a network may normalise its input in place
    recorder = _Recorder(image)
    with evaluating(module), torch.no_grad(), recorder:
        result = module(image)
    outputs = tuple(tensors((result,)))
    numbers = tuple(recorder.numbers.get(id(output), -1) for output in outputs)
    return Trace(tuple(recorder.ops), numbers, outputs)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode, and each of its layers back into its own mode afterwards."""
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among some values, also in lists, tuples and dicts; anything else is left out."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(tensors(value))
        elif isinstance(value, dict):
            found.extend(tensors(tuple(value.values())))
    return found


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        return tuple(_without_tensors(item) for item in value)
    return value
