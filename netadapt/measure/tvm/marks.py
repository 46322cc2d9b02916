"""How a reduction says which kernel computes it, through all of TVM's passes, and a function that it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import s_tir, te, tirx

from netadapt.measure.tvm.code import load
from netadapt.measure.tvm.kernels import Tiling
from netadapt.measure.tvm.window import Window

#: Annotations of a reduction: its kernel, window and tile, the groups of its channels, and whether its input is planes.
KERNEL = "netadapt.kernel"
WINDOW = "netadapt.window"
TILE = "netadapt.tile"
GROUPS = "netadapt.groups"
PLANES = "netadapt.planes"
#: Attribute of functions that are kernels.
SCHEDULED = "tirx.is_scheduled"
#: What a maximum begins with.
LOWEST = -3.4028234663852886e38


def marks(kernel: str, window: Window, tile: Tiling | None = None) -> dict[str, Any]:
    """The annotations of a reduction."""
    named: dict[str, Any] = {KERNEL: kernel, WINDOW: window.to_list()}
    return named | ({TILE: [tile.pixels, tile.vectors]} if tile else {})


def image_reader(x: Any, planes: bool = False) -> Callable[[Any, Any, Any, Any], Any]:
    """Reads (number, row, column, channel) of images that are `[N, H, W, C]`, or `[N, C, H, W]` if they are planes."""
    if isinstance(x, te.Tensor):
        return (lambda n, y, z, c: x[n, c, y, z]) if planes else (lambda n, y, z, c: x[n, y, z, c])
    return (lambda n, y, z, c: load(x, [n, c, y, z])) if planes else (lambda n, y, z, c: load(x, [n, y, z, c]))


def finished(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Mark a kernel as complete, in the outermost block that TVM's passes expect."""
    root = s_tir.SBlock([], [], [], "root", function.body)
    function = function.with_body(s_tir.SBlockRealize([], True, root))
    return function.with_attrs({SCHEDULED: True, "tirx.noalias": True})
