"""What Relax's operators become on CPUs: reductions with packed weights, marked with the kernel that computes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst

from netadapt.measure.tvm import expressions, kernels
from netadapt.measure.tvm.code import Code, load
from netadapt.measure.tvm.marks import finished
from netadapt.measure.tvm.vector_unit import VectorUnit
from netadapt.measure.tvm.window import Window

#: A network's input: its few channels are read as the planes that they come in, which saves turning the image.
_FEW_CHANNELS = 3


class Operators:
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
            return builder.call_te(
                partial(expressions.depthwise, window=window), x, taps, primfunc_name_hint="depthwise"
            )
        side_by_side = images * window.out_size[0] * window.out_size[1] if window.is_pointwise else window.out_size[1]
        depth = height * width * (inputs // groups)
        tile = kernels.tiling(self._unit, side_by_side, depth, channels // groups)
        parts = np.split(values.reshape(-1, channels), groups, axis=1)
        panels = relax.const(np.concatenate([kernels.packed(part, tile, self._unit) for part in parts]))
        name = "pointwise" if window.is_pointwise else "convolution"
        kernel = partial(
            expressions.convolution,
            window=window,
            tile=tile,
            groups=groups,
            planes=planes is not None,
            channels=channels,
        )
        return builder.call_te(kernel, x if planes is None else planes, panels, primfunc_name_hint=name)

    def _matrix_product(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, weights = call.args
        if not isinstance(weights, GenericConst) or len(_shape(x)) != 2 or len(_shape(weights)) != 2:
            return _by_tvm(builder, call)
        values = weights.value.numpy()
        tile = kernels.tiling(self._unit, _shape(x)[0], *values.shape)
        panels = relax.const(kernels.packed(values, tile, self._unit))
        kernel = partial(expressions.product, tile=tile, channels=values.shape[1])
        return builder.call_te(kernel, x, panels, primfunc_name_hint="linear")

    def _pool(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        attributes, (x,) = call.attrs, call.args
        if attributes.layout != "NHWC":
            return _by_tvm(builder, call)
        window = _window(attributes, _shape(x), _shape(call), _pair(attributes.pool_size))
        if not window.meets_image:
            return _by_tvm(builder, call)
        if call.op.name == "relax.nn.max_pool2d":
            return builder.call_te(partial(expressions.max_pool, window=window), x, primfunc_name_hint="max_pool")
        padded = bool(attributes.count_include_pad)
        ends = [int(length) for length in attributes.padding][2:] if padded else [0, 0]
        kernel = partial(expressions.average_pool, window=window, count_padding=padded, ends=ends)
        return builder.call_te(kernel, x, primfunc_name_hint="avg_pool")

    def _mean(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        (x,) = call.args
        axes = [int(axis) for axis in call.attrs.axis or []]
        if len(_shape(x)) != 4 or axes != [1, 2]:
            return _by_tvm(builder, call)
        size = _shape(x)[1:3]
        window = Window((size[0], size[1]), (1, 1), (size[0], size[1]))
        kernel = partial(expressions.average_pool, window=window, count_padding=True, ends=[0, 0])
        pooled = builder.call_te(kernel, x, primfunc_name_hint="global_avg_pool")
        return pooled if call.attrs.keepdims else relax.op.reshape(builder.emit(pooled), _shape(call))

    def _concatenation(self, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        parts = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        if not parts or int(call.attrs.axis) not in (-1, len(_shape(call)) - 1):
            return _by_tvm(builder, call)
        function = _concatenation(self._unit, [_shape(part) for part in parts])
        kernel = builder.add_func(function, "concat")
        return relax.call_tir(kernel, parts, call.ty)


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
    return finished(tirx.PrimFunc([*parts, whole], code.body))


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


def _pair(lengths: Any) -> tuple[int, int]:
    values = [int(length) for length in lengths]
    return values[0], values[-1]
