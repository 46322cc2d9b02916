"""The passes for CPUs: operators become reductions that TVM fuses with what follows, and those become our kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, s_tir, tirx
from tvm.ir import TensorLoad
from tvm_ffi import structural_map

from netadapt.measure.tvm import kernels
from netadapt.measure.tvm.code import Code, Index, load, substituted
from netadapt.measure.tvm.importing import channels_last
from netadapt.measure.tvm.kernels import Tiling
from netadapt.measure.tvm.library import GENERAL
from netadapt.measure.tvm.marks import GROUPS, KERNEL, LOWEST, PLANES, SCHEDULED, TILE, WINDOW, finished, image_reader
from netadapt.measure.tvm.operators import Operators
from netadapt.measure.tvm.vector_unit import VectorUnit, vector_unit
from netadapt.measure.tvm.window import Window

#: Gives a fused function as a kernel; None where it has none for it.
KernelFor = Callable[[tirx.PrimFunc], tirx.PrimFunc | None]


def cpu_pipeline(target: tvm.target.Target, tuned: KernelFor | None = None) -> Callable[[tvm.IRModule], tvm.IRModule]:
    """From an imported model to kernels for the CPU of a target: those that tuning found, and ours for all others."""
    fused = fusing_pipeline(target)
    # Not a pass: TVM gives errors out of one another type.
    return lambda module: _with_kernels(fused(module), target, tuned)


def fusing_pipeline(target: tvm.target.Target) -> tvm.ir.transform.Pass:
    """From an imported model to fused functions, which say what a kernel computes and not yet how."""
    unit = vector_unit(target)
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            _pass(channels_last, "channels_last"),
            # Convolutions look for what turned their input, so that has to be there still.
            transform.LegalizeOps(Operators(unit).by_name() | {"relax.permute_dims": lambda builder, call: call}),
            transform.DeadCodeElimination(),
            transform.LegalizeOps(),
            transform.AnnotateTIROpPattern(),
            transform.FoldConstant(),
            transform.FuseOps(),
            transform.FuseTIR(),
            transform.DeadCodeElimination(),
        ]
    )


@dataclass(frozen=True)
class _Epilogue:
    """What becomes of each element of a result before it is written: bias, activation, sum with another tensor, ..."""

    output: tirx.Buffer
    variables: tuple[Any, ...]
    indices: tuple[Any, ...]
    value: Any
    #: Stands for the element of the result in `value`.
    result: tirx.Var

    def write(self, code: Code, position: Sequence[Index], result: Any = None) -> None:
        """Write the element of a position, from the result there."""
        places = dict(zip(self.variables, position, strict=True))
        indices = [substituted(index, places) for index in self.indices]
        code.store(self.output, indices, substituted(self.value, places | {self.result: result}))


def _with_kernels(module: tvm.IRModule, target: tvm.target.Target, tuned: KernelFor | None) -> tvm.IRModule:
    for variable, function in module.functions_items():
        if is_fused(function):
            module.update_func(variable, (tuned and tuned(function)) or our_kernel(function, target))
    return module


def is_fused(function: Any) -> bool:
    """Whether it is a function that has to become a kernel."""
    return isinstance(function, tirx.PrimFunc) and not (function.attrs or {}).get(SCHEDULED)


def our_kernel(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc:
    """A fused function as our kernel; where none fits, as it is, and marked."""
    return _kernel(function, vector_unit(target)) or function.with_attr(GENERAL, True)


def _kernel(function: tirx.PrimFunc, unit: VectorUnit) -> tirx.PrimFunc | None:
    """The function as one of our kernels; None where none fits."""
    schedule = s_tir.Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    marked = [block for block in blocks if KERNEL in schedule.get(block).annotations]
    if len(marked) > 1 or marked not in (blocks[:1], []):
        return None
    try:
        for block in blocks[len(marked) : -1]:
            schedule.compute_inline(block)
    except s_tir.ScheduleError:
        return None
    code, last = Code(), schedule.get(blocks[-1])
    reduction = schedule.get(marked[0]) if marked else None
    if reduction is not None:
        epilogue = _epilogue(last, reduction)
        if epilogue is not None:
            _reduce(code, unit, reduction, epilogue)
            return finished(function.with_body(code.body))
        # Each element of the output needs others of the result (a scale of squeeze-excite): it is kept.
        code.keep(reduction.writes[0].source)
        _reduce(code, unit, reduction, _unchanged(reduction))
    each = _epilogue(last, None)
    if each is None:
        return None
    shape = [int(variable.dom.extent) for variable in last.iter_vars]
    kernels.elementwise(code, unit, shape, lambda position: each.write(code, position))
    return finished(function.with_body(code.body))


def _unchanged(block: Any) -> _Epilogue:
    """Writes the result of a reduction as it is."""
    result = tirx.Var("result", "float32")
    variables = _spatial(block)
    return _Epilogue(block.body.buffer, variables, variables, result, result)


def _epilogue(block: Any, reduction: Any | None) -> _Epilogue | None:
    """What the last block of a function does with each element of a result; None if it needs others as well."""
    if block.same_as(reduction):
        return _unchanged(block)
    variables, store = _spatial(block), block.body
    if len(variables) != len(block.iter_vars) or not isinstance(store, tirx.BufferStore):
        return None
    read = reduction.writes[0].source if reduction is not None else None
    result = tirx.Var("result", "float32")
    elsewhere = False

    def of_result(expression: Any) -> Any:
        nonlocal elsewhere
        if not expression.source.same_as(read):
            return expression
        elsewhere |= any(not index.same_as(at) for index, at in zip(expression.indices, variables, strict=True))
        return result

    value = structural_map(store.value, (TensorLoad, of_result))
    return None if elsewhere else _Epilogue(store.buffer, variables, tuple(store.indices), value, result)


def _spatial(block: Any) -> tuple[Any, ...]:
    return tuple(variable.var for variable in block.iter_vars if variable.iter_type == tirx.IterVar.DataPar)


def _reduce(code: Code, unit: VectorUnit, block: Any, epilogue: _Epilogue) -> None:
    """Write the kernel that a marked block stands for."""
    marks = block.annotations
    kind, window = str(marks[KERNEL]), Window.from_list(marks[WINDOW])
    x, *weights = (region.source for region in block.reads)
    planes = bool(marks.get(PLANES, False))
    image = image_reader(x, planes)
    images, inputs = int(x.shape[0]), int(x.shape[1 if planes else -1])
    outputs = int(block.writes[0].source.shape[-1])

    def write(pixel: Sequence[Index], channel: Index, value: Any) -> None:
        epilogue.write(code, [*pixel, channel], value)

    if TILE not in marks:
        initial = LOWEST if kind == "max" else 0.0
        kernels.slide(code, unit, window, (images, inputs), image, initial, _STEPS[kind](weights), write)
        return
    tile = Tiling(*(int(length) for length in marks[TILE]))
    if kind == "product":
        kernels.matrix_product(
            code,
            unit,
            tile,
            (images, inputs, outputs),
            lambda row, k: load(x, [row, k]),
            weights[0],
            lambda row, channel, value: write([row], channel, value),
        )
    elif kind == "convolution" and window.is_pointwise and int(marks[GROUPS]) == 1:
        height, width = window.in_size

        def pixel(number: Index) -> tuple[Index, Index, Index]:
            return number // (height * width), number // width % height, number % width

        kernels.matrix_product(
            code,
            unit,
            tile,
            (images * height * width, inputs, outputs),
            lambda number, k: image(*pixel(number), k),
            weights[0],
            lambda number, channel, value: write(pixel(number), channel, value),
        )
    else:
        groups = int(marks[GROUPS])
        sizes = (images, groups, inputs // groups, outputs // groups)
        kernels.convolution(code, unit, tile, window, sizes, image, weights[0], write)


#: How kernels that slide over each channel alone take one more value into their result.
_STEPS: dict[str, Callable[[list[tirx.Buffer]], Callable[..., Any]]] = {
    "depthwise": lambda weights: (
        lambda result, value, tap, channels: result + value * load(weights[0], [tap, channels])
    ),
    "max": lambda _: lambda result, value, tap, channels: tirx.max(result, value),
    "sum": lambda _: lambda result, value, tap, channels: result + value,
}


def _pass(function: Callable[[tvm.IRModule], tvm.IRModule], name: str) -> tvm.ir.transform.Pass:
    return tvm.transform.module_pass(lambda module, _: function(module), opt_level=0, name=name)
