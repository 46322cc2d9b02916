"""What operators compute, in TVM's own terms: it can fuse them, tune them, and compute them without our kernels.

Images are `[N, H, W, C]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from netadapt.measure.tvm.kernels import Tiling
from netadapt.measure.tvm.marks import GROUPS, LOWEST, PLANES, image_reader, marks
from netadapt.measure.tvm.window import Window


def convolution(
    x: te.Tensor, panels: te.Tensor, window: Window, tile: Tiling, groups: int, planes: bool, channels: int
) -> te.Tensor:
    """A convolution with packed weights; an input that is `planes` is `[N, C, H, W]`."""
    images, inputs = _lengths(x)[0], _lengths(x)[1 if planes else 3]
    depth, per_group = inputs // groups, channels // groups
    width = _lengths(panels)[2]
    in_group = -(-per_group // width)
    rows, columns = _window_axes(window)
    k = te.reduce_axis((0, depth), "k")
    padded = _padded(image_reader(x, planes), window, 0.0)

    def element(n: Any, h: Any, w: Any, c: Any) -> Any:
        group, channel = c // per_group, c % per_group
        value = padded(n, h, w, rows, columns, group * depth + k)
        at = (rows * window.kernel[1] + columns) * depth + k
        return te.sum(value * panels[group * in_group + channel // width, at, channel % width], [rows, columns, k])

    named = marks("convolution", window, tile) | {GROUPS: groups, PLANES: planes}
    return te.compute((images, *window.out_size, channels), element, "convolution", attrs=named)


def product(x: te.Tensor, panels: te.Tensor, tile: Tiling, channels: int) -> te.Tensor:
    """Rows `[M, depth]` times a packed matrix."""
    rows, depth = _lengths(x)
    width = _lengths(panels)[2]
    k = te.reduce_axis((0, depth), "k")
    named = marks("product", Window((1, 1), (1, 1), (1, 1)), tile)
    return te.compute(
        (rows, channels), lambda m, c: te.sum(x[m, k] * panels[c // width, k, c % width], [k]), "product", attrs=named
    )


def depthwise(x: te.Tensor, taps: te.Tensor, window: Window) -> te.Tensor:
    """A convolution of each channel alone, with weights `[elements of the window, C]`."""
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(image_reader(x), window, 0.0)
    return te.compute(
        (images, *window.out_size, channels),
        lambda n, h, w, c: te.sum(
            padded(n, h, w, rows, columns, c) * taps[rows * window.kernel[1] + columns, c], [rows, columns]
        ),
        "depthwise",
        attrs=marks("depthwise", window),
    )


def max_pool(x: te.Tensor, window: Window) -> te.Tensor:
    """The largest value under a window."""
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(image_reader(x), window, LOWEST)
    return te.compute(
        (images, *window.out_size, channels),
        lambda n, h, w, c: te.max(padded(n, h, w, rows, columns, c), [rows, columns]),
        "max_pool",
        attrs=marks("max", window),
    )


def average_pool(x: te.Tensor, window: Window, count_padding: bool, ends: list[int]) -> te.Tensor:
    """The mean under a window, of the image alone or also of the padding, which reaches to `ends` behind it."""
    images, _, _, channels = _lengths(x)
    rows, columns = _window_axes(window)
    padded = _padded(image_reader(x), window, 0.0)
    shape = (images, *window.out_size, channels)
    sums = te.compute(
        shape,
        lambda n, h, w, c: te.sum(padded(n, h, w, rows, columns, c), [rows, columns]),
        "sums",
        attrs=marks("sum", window),
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


def _lengths(tensor: te.Tensor) -> tuple[int, ...]:
    return tuple(int(length) for length in tensor.shape)
