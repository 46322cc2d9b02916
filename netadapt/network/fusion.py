"""Turn executed tensor operations into the fused workloads that a runtime executes.

A convolution or linear layer takes the batch-norm and the activation that follow it into itself, when nothing else
reads the value in between; additions and products take an activation. This is what inference runtimes do with the
exported network (ONNX Runtime: docs/performance/model-optimizations/graph-optimizations).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from netadapt.network.trace import Trace, TracedOp
from netadapt.network.workload import Activation, Op, Workload

#: Operations that only rename the shape of a value; a runtime executes nothing for them.
_FREE = frozenset(
    {"view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "alias", "detach", "dropout", "expand"}
)
_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
}
_TAKES_ACTIVATION = frozenset({"conv", "linear", "add", "mul", "scale", "concat", "batch_norm"})


@dataclass(frozen=True)
class Reading:
    """The workloads of one network in order of execution, and the names of operations that are not modelled."""

    workloads: tuple[Workload, ...]
    unknown: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(workload.macs for workload in self.workloads)


def read_workloads(trace: Trace) -> Reading:
    """Fuse the operations of `trace` into workloads."""
    return _Fusion(trace).run()


class _Fusion:
    """Walks the trace once; `_producer` tells which workload's result a value is."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._same_as = _renamed_values(trace)
        self._readers = Counter(self._value(number) for number in trace.outputs)
        for op in trace.ops:
            if op.name not in _FREE:
                self._readers.update({self._value(number) for number in op.inputs})
        self._workloads: list[Workload] = []
        self._unknown: list[str] = []
        self._producer: dict[int, int] = {}

    def run(self) -> Reading:
        for op in self._trace.ops:
            if op.name not in _FREE:
                self._take(op)
        return Reading(tuple(self._workloads), tuple(self._unknown))

    def _value(self, number: int) -> int:
        return self._same_as.get(number, number)

    def _take(self, op: TracedOp) -> None:
        if self._fold_batch_norm(op) or self._fuse_activation(op):
            return
        workload = _workload_of(op)
        if workload is None:
            self._unknown.append(op.name)
            return
        self._producer[op.output] = len(self._workloads)
        self._workloads.append(workload)

    def _sole_reader_of(self, op: TracedOp) -> int | None:
        """Index of the workload whose result only `op` reads."""
        value = self._value(op.inputs[0])
        return self._producer.get(value) if self._readers[value] == 1 else None

    def _fold_batch_norm(self, op: TracedOp) -> bool:
        index = self._sole_reader_of(op)
        if op.name not in _BATCH_NORMS or index is None or not _has_fixed_statistics(op):
            return False
        workload = self._workloads[index]
        if workload.op not in ("conv", "linear") or workload.activation != "none":
            return False
        self._become(op, index, replace(workload, bias=True))
        return True

    def _fuse_activation(self, op: TracedOp) -> bool:
        activation = _activation_of(op)
        index = self._sole_reader_of(op)
        if activation is None or index is None:
            return False
        workload = self._workloads[index]
        if workload.op not in _TAKES_ACTIVATION or workload.activation != "none":
            return False
        self._become(op, index, replace(workload, activation=activation))
        return True

    def _become(self, op: TracedOp, index: int, workload: Workload) -> None:
        self._workloads[index] = workload
        self._producer[op.output] = index


def _renamed_values(trace: Trace) -> dict[int, int]:
    same_as: dict[int, int] = {}
    for op in trace.ops:
        if op.name in _FREE:
            same_as[op.output] = same_as.get(op.inputs[0], op.inputs[0])
    return same_as


_BATCH_NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
)


def _workload_of(op: TracedOp) -> Workload | None:
    activation = _activation_of(op)
    if activation is not None:
        return _elementwise("activation", op, activation)
    reader = _READERS.get(op.name)
    return reader(op) if reader else None


def _activation_of(op: TracedOp) -> Activation | None:
    if op.name == "hardtanh":
        bounds = (op.arguments.get("min_val", -1.0), op.arguments.get("max_val", 1.0))
        return "relu6" if bounds == (0.0, 6.0) else None
    return _ACTIVATIONS.get(op.name)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, tuple) and len(value) == 1:
        return (int(value[0]), int(value[0]))
    assert isinstance(value, tuple)
    return (int(value[0]), int(value[1]))


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def _convolution(op: TracedOp) -> Workload | None:
    weight: tuple[int, ...] = op.arguments["weight"]
    if op.arguments["transposed"] or len(weight) != 4:
        return None
    batch, channels, height, width = op.in_shapes[0]
    return Workload(
        "conv",
        (channels,),
        weight[0],
        (height, width),
        kernel=(weight[2], weight[3]),
        stride=_pair(op.arguments["stride"]),
        padding=_pair(op.arguments["padding"]),
        dilation=_pair(op.arguments["dilation"]),
        groups=op.arguments["groups"],
        bias=op.arguments["bias"] is not None,
        batch=batch,
    )


def _linear(op: TracedOp) -> Workload | None:
    shape = op.in_shapes[0]
    if len(op.inputs) != 1 or len(shape) != 2:
        return None
    bias = op.arguments.get("bias") is not None if op.name == "linear" else op.name == "addmm"
    return Workload("linear", (shape[1],), op.out_shape[1], bias=bias, batch=shape[0])


def _max_pool(op: TracedOp) -> Workload | None:
    if _pair(op.arguments.get("dilation", 1)) != (1, 1):
        return None
    return _pool("max_pool", op)


def _average_pool(op: TracedOp) -> Workload | None:
    if op.arguments.get("divisor_override") is not None:
        return None
    pool = _pool("avg_pool", op)
    return replace(pool, count_include_pad=op.arguments.get("count_include_pad", True)) if pool else None


def _pool(kind: Literal["max_pool", "avg_pool"], op: TracedOp) -> Workload | None:
    if len(op.in_shapes[0]) != 4:
        return None
    kernel = _pair(op.arguments["kernel_size"])
    workload = _elementwise(kind, op)
    return workload and replace(
        workload,
        kernel=kernel,
        stride=_pair(op.arguments.get("stride") or kernel),
        padding=_pair(op.arguments.get("padding", 0)),
        ceil_mode=op.arguments.get("ceil_mode", False),
    )


def _mean(op: TracedOp) -> Workload | None:
    shape = op.in_shapes[0]
    if len(shape) != 4 or {dim % 4 for dim in op.arguments.get("dim") or ()} != {2, 3}:
        return None
    return _elementwise("global_avg_pool", op)


def _adaptive_average_pool(op: TracedOp) -> Workload | None:
    if len(op.in_shapes[0]) != 4:
        return None
    size, wanted = _size(op.in_shapes[0]), _size(op.out_shape)
    if wanted == (1, 1):
        return _elementwise("global_avg_pool", op)
    if size[0] % wanted[0] or size[1] % wanted[1]:
        return None
    window = (size[0] // wanted[0], size[1] // wanted[1])
    workload = _elementwise("avg_pool", op)
    return workload and replace(workload, kernel=window, stride=window)


def _add(op: TracedOp) -> Workload | None:
    if len(op.inputs) != 2 or op.in_shapes[0] != op.in_shapes[1] or op.arguments.get("alpha", 1) != 1:
        return None
    return _elementwise("add", op)


def _multiply(op: TracedOp) -> Workload | None:
    if len(op.inputs) != 2:
        return None
    if op.in_shapes[0] == op.in_shapes[1]:
        return _elementwise("mul", op)
    gate, feature_map = sorted(op.in_shapes, key=math.prod)
    if len(feature_map) != 4 or gate != (*feature_map[:2], 1, 1):
        return None
    channels = feature_map[1]
    return Workload("scale", (channels, channels), channels, _size(feature_map), batch=feature_map[0])


def _concat(op: TracedOp) -> Workload | None:
    rank = len(op.out_shape)
    if rank not in (2, 4) or op.arguments.get("dim", 0) % rank != 1 or len(op.arguments["tensors"]) != len(op.inputs):
        return None
    return _elementwise("concat", op)


def _batch_norm(op: TracedOp) -> Workload | None:
    return _elementwise("batch_norm", op) if _has_fixed_statistics(op) else None


def _has_fixed_statistics(op: TracedOp) -> bool:
    """False for an instance norm and a batch-norm without running statistics, which a runtime cannot fold."""
    return not op.arguments.get("training", False)


def _elementwise(kind: Op, op: TracedOp, activation: Activation = "none") -> Workload | None:
    """A workload of which every input has the size of the first one."""
    if len(op.out_shape) not in (2, 4):
        return None
    return Workload(
        kind,
        tuple(shape[1] for shape in op.in_shapes),
        op.out_shape[1],
        _size(op.in_shapes[0]),
        activation=activation,
        batch=op.out_shape[0],
    )


_READERS: dict[str, Callable[[TracedOp], Workload | None]] = {
    "convolution": _convolution,
    "addmm": _linear,
    "mm": _linear,
    "linear": _linear,
    "max_pool2d_with_indices": _max_pool,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "mean": _mean,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "add": _add,
    "mul": _multiply,
    "cat": _concat,
    **dict.fromkeys(_BATCH_NORMS, _batch_norm),
}
