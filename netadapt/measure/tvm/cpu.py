"""The passes for CPUs: operators become reductions that TVM fuses with what follows, and those become our kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax, s_tir, te, tirx
from tvm.ir import GenericConst, TensorLoad
from tvm_ffi import structural_map

from netadapt.measure.tvm import kernels
from netadapt.measure.tvm.code import Code, Index, load, substituted
from netadapt.measure.tvm.importing import channels_last
from netadapt.measure.tvm.kernels import Tiling
from netadapt.measure.tvm.library import GENERAL
from netadapt.measure.tvm.vector_unit import VectorUnit, vector_unit
from netadapt.measure.tvm.window import Window

#: Annotations of a reduction: which of our kernels computes it, its window, and its tile.
_KERNEL = "netadapt.kernel"
_WINDOW = "netadapt.window"
_TILE = "netadapt.tile"
_GROUPS = "netadapt.groups"
_PLANES = "netadapt.planes"
_SCHEDULED = "tirx.is_scheduled"
#: A network's input: its few channels are read as the planes that they come in, which saves turning the image.
_FEW_CHANNELS = 3
_LOWEST = -3.4028234663852886e38


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
            transform.LegalizeOps(_Operators(unit).by_name() | {"relax.permute_dims": lambda builder, call: call}),
            transform.DeadCodeElimination(),
            transform.LegalizeOps(),
            transform.AnnotateTIROpPattern(),
            transform.FoldConstant(),
            transform.FuseOps(),
            transform.FuseTIR(),
            transform.DeadCodeElimination(),
        ]
    )


class _Operators:
    """What operators become: reductions over a window, marked with the kernel that computes them."""

    def __init__(self, unit: VectorUnit) -> None:
        self._unit = unit

    def by_name(self) -> dict[str, Callable[[relax.BlockBuilder, relax.Call], relax.Expr]]:
        """The functions that `LegalizeOps` takes."""
        return {
            "relax.nn.conv2d": self._convolution,
            "relax.matmul": self._matrix_product,
            "relax.nn.max_pool2d": self._pool,
            "relax.nn.avg_pool2d": self._pool,
            "relax.mean": self._mean,
            "relax.concat": self._concatenation,
        }

    def _convolution(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        attributes, (x, weights) = call.attrs, call.args
        if attributes.data_layout != "NHWC" or not isinstance(weights, GenericConst):
            return _by_tvm(builder, call)
        values = weights.value.numpy()
        images, _, _, inputs = _shape(x)
        height, width, _, channels = values.shape
        planes = _planes(builder, x) if inputs <= _FEW_CHANNELS else None
        window = _window(attributes, _shape(x), _shape(call), (height, width))
        if not window.meets_image:
            return _by_tvm(builder, call)
        groups = int(attributes.groups)
        if groups == inputs == channels:
            taps = relax.const(np.ascontiguousarray(values.reshape(height * width, channels)))
            return builder.call_te(partial(_depthwise, window=window), x, taps, primfunc_name_hint="depthwise")
        side_by_side = images * window.out_size[0] * window.out_size[1] if window.is_pointwise else window.out_size[1]
        depth = height * width * (inputs // groups)
        tile = kernels.tiling(self._unit, side_by_side, depth, channels // groups)
        parts = np.split(values.reshape(-1, channels), groups, axis=1)
        panels = relax.const(np.concatenate([kernels.packed(part, tile, self._unit) for part in parts]))
        name = "pointwise" if window.is_pointwise else "convolution"
        kernel = partial(
            _convolution, window=window, tile=tile, groups=groups, planes=planes is not None, channels=channels
        )
        return builder.call_te(kernel, x if planes is None else planes, panels, primfunc_name_hint=name)

    def _matrix_product(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, weights = call.args
        if not isinstance(weights, GenericConst) or len(_shape(x)) != 2 or len(_shape(weights)) != 2:
            return _by_tvm(builder, call)
        values = weights.value.numpy()
        tile = kernels.tiling(self._unit, _shape(x)[0], *values.shape)
        panels = relax.const(kernels.packed(values, tile, self._unit))
        kernel = partial(_product, tile=tile, channels=values.shape[1])
        return builder.call_te(kernel, x, panels, primfunc_name_hint="linear")

    def _pool(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        attributes, (x,) = call.attrs, call.args
        if attributes.layout != "NHWC":
            return _by_tvm(builder, call)
        window = _window(attributes, _shape(x), _shape(call), _pair(attributes.pool_size))
        if not window.meets_image:
            return _by_tvm(builder, call)
        if call.op.name == "relax.nn.max_pool2d":
            return builder.call_te(partial(_max_pool, window=window), x, primfunc_name_hint="max_pool")
        padded = bool(attributes.count_include_pad)
        ends = [int(length) for length in attributes.padding][2:] if padded else [0, 0]
        kernel = partial(_average_pool, window=window, count_padding=padded, ends=ends)
        return builder.call_te(kernel, x, primfunc_name_hint="avg_pool")

    def _mean(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        (x,) = call.args
        axes = [int(axis) for axis in call.attrs.axis or []]
        if len(_shape(x)) != 4 or axes != [1, 2] or not call.attrs.keepdims:
            return _by_tvm(builder, call)
        size = _shape(x)[1:3]
        window = Window((size[0], size[1]), (1, 1), (size[0], size[1]))
        kernel = partial(_average_pool, window=window, count_padding=True, ends=[0, 0])
        return builder.call_te(kernel, x, primfunc_name_hint="global_avg_pool")

    def _concatenation(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        parts = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        if not parts or int(call.attrs.axis) not in (-1, len(_shape(call)) - 1):
            return _by_tvm(builder, call)
        function = _concatenation(self._unit, [_shape(part) for part in parts])
        kernel = builder.add_func(function, "concat")
        return relax.call_tir(kernel, parts, call.ty)


# What operators become: TVM's own description of them, which it can fuse, tune, and compute without our kernels.


def _convolution(
    x: te.Tensor, panels: te.Tensor, window: Window, tile: Tiling, groups: int, planes: bool, channels: int
) -> te.Tensor:
    images, inputs = _lengths(x)[0], _lengths(x)[1 if planes else 3]
    depth, per_group = inputs // groups, channels // groups
    width = _lengths(panels)[2]
    in_group = -(-per_group // width)
    rows, columns = _window_axes(window)
    k = te.reduce_axis((0, depth), "k")
    padded = _padded(_image(x, planes), window, 0.0)

    def element(n: Any, h: Any, w: Any, c: Any) -> Any:
        group, channel = c // per_group, c % per_group
        value = padded(n, h, w, rows, columns, group * depth + k)
        at = (rows * window.kernel[1] + columns) * depth + k
        return te.sum(value * panels[group * in_group + channel // width, at, channel % width], [rows, columns, k])

    marks = _marks("convolution", window, tile) | {_GROUPS: groups, _PLANES: planes}
    return te.compute((images, *window.out_size, channels), element, "convolution", attrs=marks)


def _product(x: te.Tensor, panels: te.Tensor, tile: Tiling, channels: int) -> te.Tensor:
    rows, depth = _lengths(x)
    width = _lengths(panels)[2]
    k = te.reduce_axis((0, depth), "k")
    marks = _marks("product", Window((1, 1), (1, 1), (1, 1)), tile)
    return te.compute(
        (rows, channels), lambda m, c: te.sum(x[m, k] * panels[c // width, k, c % width], [k]), "product", attrs=marks
    )


def _depthwise(x: te.Tensor, taps: te.Tensor, window: Window) -> te.Tensor:
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(_image(x), window, 0.0)
    return te.compute(
        (images, *window.out_size, channels),
        lambda n, h, w, c: te.sum(
            padded(n, h, w, rows, columns, c) * taps[rows * window.kernel[1] + columns, c], [rows, columns]
        ),
        "depthwise",
        attrs=_marks("depthwise", window),
    )


def _max_pool(x: te.Tensor, window: Window) -> te.Tensor:
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(_image(x), window, _LOWEST)
    return te.compute(
        (images, *window.out_size, channels),
        lambda n, h, w, c: te.max(padded(n, h, w, rows, columns, c), [rows, columns]),
        "max_pool",
        attrs=_marks("max", window),
    )


def _average_pool(x: te.Tensor, window: Window, count_padding: bool, ends: list[int]) -> te.Tensor:
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(_image(x), window, 0.0)
    shape = (images, *window.out_size, channels)
    sums = te.compute(
        shape,
        lambda n, h, w, c: te.sum(padded(n, h, w, rows, columns, c), [rows, columns]),
        "sums",
        attrs=_marks("sum", window),
    )

    def counted(position: Any, axis: int) -> Any:
        if not count_padding:
            return window.taps(position, axis)[1]
        # A window that begins inside may still reach over the padding behind, which does not count.
        room = window.in_size[axis] + ends[axis] - window.first(position, axis)
        return tirx.min(window.kernel[axis], room)

    return te.compute(
        shape,
        lambda n, h, w, c: sums[n, h, w, c] / tirx.Cast("float32", counted(h, 0) * counted(w, 1)),
        "average",
    )


def _image(x: Any, planes: bool = False) -> Callable[[Any, Any, Any, Any], Any]:
    """Reads (number, row, column, channel) of images that are `[N, H, W, C]`, or `[N, C, H, W]` if they are planes."""
    if isinstance(x, te.Tensor):
        return (lambda n, y, z, c: x[n, c, y, z]) if planes else (lambda n, y, z, c: x[n, y, z, c])
    return (lambda n, y, z, c: load(x, [n, c, y, z])) if planes else (lambda n, y, z, c: load(x, [n, y, z, c]))


def _padded(image: Callable[[Any, Any, Any, Any], Any], window: Window, outside: float) -> Callable[..., Any]:
    """Reads the input under an element of the window, or `outside` the image a number."""

    def read(n: Any, h: Any, w: Any, row: Any, column: Any, channel: Any) -> Any:
        y = window.first(h, 0) + row * window.dilation[0]
        z = window.first(w, 1) + column * window.dilation[1]
        inside = [
            condition
            for axis, at in ((0, y), (1, z))
            if window.is_cut(axis)
            for condition in (at >= 0, at < window.in_size[axis])
        ]
        value = image(n, y, z, channel)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(outside, "float32")) if inside else value

    return read


def _window_axes(window: Window) -> tuple[Any, Any]:
    return te.reduce_axis((0, window.kernel[0]), "rh"), te.reduce_axis((0, window.kernel[1]), "rw")


def _marks(kernel: str, window: Window, tile: Tiling | None = None) -> dict[str, Any]:
    marks: dict[str, Any] = {_KERNEL: kernel, _WINDOW: window.to_list()}
    return marks | ({_TILE: [tile.pixels, tile.vectors]} if tile else {})


def _concatenation(unit: VectorUnit, shapes: list[tuple[int, ...]]) -> tirx.PrimFunc:
    """Copies parts behind one another along the last axis."""
    parts = [tirx.decl_buffer(shape, "float32", f"part{index}") for index, shape in enumerate(shapes)]
    whole = tirx.decl_buffer((*shapes[0][:-1], sum(shape[-1] for shape in shapes)), "float32", "whole")
    code, start = Code(), 0
    for part, shape in zip(parts, shapes, strict=True):

        def copy(indices: list[Any], part: Any = part, start: int = start) -> None:
            code.store(whole, [*indices[:-1], indices[-1] + start], load(part, indices))

        kernels.elementwise(code, unit, shape, copy)
        start += shape[-1]
    return _finished(tirx.PrimFunc([*parts, whole], code.body))


# From fused reductions to our kernels.


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
    return isinstance(function, tirx.PrimFunc) and not (function.attrs or {}).get(_SCHEDULED)


def our_kernel(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc:
    """A fused function as our kernel; where none fits, as it is, and marked."""
    return _kernel(function, vector_unit(target)) or function.with_attr(GENERAL, True)


def _kernel(function: tirx.PrimFunc, unit: VectorUnit) -> tirx.PrimFunc | None:
    """The function as one of our kernels; None where none fits."""
    schedule = s_tir.Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    marked = [block for block in blocks if _KERNEL in schedule.get(block).annotations]
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
            return _finished(function.with_body(code.body))
        # Each element of the output needs others of the result (a scale of squeeze-excite): it is kept.
        code.keep(reduction.writes[0].source)
        _reduce(code, unit, reduction, _unchanged(reduction))
    each = _epilogue(last, None)
    if each is None:
        return None
    shape = [int(variable.dom.extent) for variable in last.iter_vars]
    kernels.elementwise(code, unit, shape, lambda position: each.write(code, position))
    return _finished(function.with_body(code.body))


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
    kind, window = str(marks[_KERNEL]), Window.from_list(marks[_WINDOW])
    x, *weights = (region.source for region in block.reads)
    planes = bool(marks.get(_PLANES, False))
    image = _image(x, planes)
    images, inputs = int(x.shape[0]), int(x.shape[1 if planes else -1])
    outputs = int(block.writes[0].source.shape[-1])

    def write(pixel: Sequence[Index], channel: Index, value: Any) -> None:
        epilogue.write(code, [*pixel, channel], value)

    if _TILE not in marks:
        initial = _LOWEST if kind == "max" else 0.0
        kernels.slide(code, unit, window, (images, inputs), image, initial, _STEPS[kind](weights), write)
        return
    tile = Tiling(*(int(length) for length in marks[_TILE]))
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
    elif kind == "convolution" and window.is_pointwise and int(marks[_GROUPS]) == 1:
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
        groups = int(marks[_GROUPS])
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


def _finished(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Mark a kernel as complete, in the outermost block that TVM's passes expect."""
    root = s_tir.SBlock([], [], [], "root", function.body)
    function = function.with_body(s_tir.SBlockRealize([], True, root))
    return function.with_attrs({_SCHEDULED: True, "tirx.noalias": True})


def _by_tvm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return call.op.get_attr("FLegalize")(builder, call)


def _planes(builder: relax.BlockBuilder, x: relax.Expr) -> relax.Expr | None:
    """What an image was as `[N, C, H, W]`; None where it was not."""
    made = builder.lookup_binding(x) if isinstance(x, relax.Var) else None
    if not isinstance(made, relax.Call) or made.op.name != "relax.permute_dims":
        return None
    return made.args[0] if [int(axis) for axis in made.attrs.axes or []] == [0, 2, 3, 1] else None


def _window(attributes: Any, x: tuple[int, ...], y: tuple[int, ...], kernel: tuple[int, int]) -> Window:
    padding = [int(length) for length in attributes.padding]
    return Window(
        (x[1], x[2]),
        (y[1], y[2]),
        kernel,
        _pair(attributes.strides),
        (padding[0], padding[1] if len(padding) > 1 else padding[0]),
        _pair(attributes.dilation),
    )


def _shape(expression: relax.Expr) -> tuple[int, ...]:
    return tuple(int(length) for length in expression.ty.shape)


def _lengths(tensor: te.Tensor) -> tuple[int, ...]:
    return tuple(int(length) for length in tensor.shape)


def _pair(lengths: Any) -> tuple[int, int]:
    values = [int(length) for length in lengths]
    return values[0], values[-1]


def _pass(function: Callable[[tvm.IRModule], tvm.IRModule], name: str) -> tvm.ir.transform.Pass:
    return tvm.transform.module_pass(lambda module, _: function(module), opt_level=0, name=name)
