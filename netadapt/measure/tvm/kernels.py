"""CPU kernels, written loop by loop: matrix product, convolution, windows a channel at a time, elementwise.

All work on `[N, H, W, C]` and compute tiles of the output that fit into the vector registers: some neighbouring pixels
times some vectors of channels. Sizes that a tile does not divide leave smaller tiles at the end, never a slow path. A
window that reaches over the border is cut, not padded: at the sides by tiles of their own, whose multiplications are
left out, above and below by the range of the loop over the window's rows.

The weights of matrix products and convolutions come packed as `[panels, depth, lanes of a panel]` (see `packed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from netadapt.measure.tvm.code import Code, Index, even, lanes, load, pieces, splat
from netadapt.measure.tvm.vector_unit import VectorUnit
from netadapt.measure.tvm.window import Window

#: Steps of the depth that are written out in each turn of its loop: on Arm, the elements of a vector of activations.
_STEP = 4
_MOST_VECTORS = 8
_MOST_PIXELS = 12
#: Vectors of results when a window slides over channels one by one.
_SLIDING_SUMS = 16
#: With fewer independent sums than multiplications that a core has under way, it waits.
_INDEPENDENT = 8
_FLOAT_BYTES = 4
#: Rows of the output that share the rows of the input which are in the cache.
_ROWS_TOGETHER = 4
#: Numbers in a line of the cache, and about what it takes to fetch one from the second cache, and to write to one. Both
#: were read off simulated cycles of single layers on a Cortex-A72 and A53.
_LINE = 16
_LINE_BYTES = _LINE * _FLOAT_BYTES
_MISS_CYCLES = 3
_WRITE_CYCLES = 24

#: Writes one element: its pixel, its channel and the value.
Writer = Callable[[Any, Index, Any], None]
#: Gives the activations of one pixel at a depth, or at several that lie side by side.
Reader = Callable[[Index], Any]
#: Gives the activation at (number of the image, row, column, channel) of the input, or a vector of channels.
Image = Callable[[Index, Index, Index, Index], Any]


@dataclass(frozen=True, slots=True)
class Tiling:
    """The part of an output that is in registers: `pixels` times `vectors` of channels."""

    pixels: int
    vectors: int


def tiling(unit: VectorUnit, pixels: int, depth: int, channels: int) -> Tiling:
    """The tile that computes `pixels` that lie side by side, of `channels` sums of `depth`, in the least time."""
    candidates = [
        Tiling(even(pixels, min(_MOST_PIXELS, unit.most_sums // vectors)), vectors)
        for vectors in range(1, _MOST_VECTORS + 1)
    ]
    return min(candidates, key=lambda tile: _work(unit, tile, pixels, depth, channels))


def packed(weights: NDArray[np.float32], tile: Tiling, unit: VectorUnit) -> NDArray[np.float32]:
    """Weights `[depth, channels]` as `[panels, depth, lanes of a panel]`, filled up with zeros."""
    depth, channels = weights.shape
    width = tile.vectors * unit.lanes
    panels = -(-channels // width)
    filled = np.zeros((depth, panels * width), np.float32)
    filled[:, :channels] = weights
    return np.ascontiguousarray(filled.reshape(depth, panels, width).transpose(1, 0, 2))


def matrix_product(
    code: Code,
    unit: VectorUnit,
    tile: Tiling,
    shape: tuple[int, int, int],
    read: Callable[[Index, Index], Any],
    weights: tirx.Buffer,
    write: Writer,
) -> None:
    """Each of `shape[0]` pixels times a matrix of `shape[1]` (depth) times `shape[2]` channels."""
    pixels, depth, channels = shape
    sums = _Sums(code, unit, tile)
    width = tile.vectors * unit.lanes
    tiles = max(1, unit.block_bytes // (depth * _FLOAT_BYTES * tile.pixels))
    for block, block_pixels in code.blocks("block", pixels, tile.pixels * tiles):
        for channel, count in code.blocks("panel", channels, width):
            for start, size in code.blocks("tile", block_pixels, tile.pixels):
                places = [block + start + index for index in range(size)]
                sums.clear(size, count)
                sums.add_products(depth, [partial(read, place) for place in places], weights, channel // width, 0)
                sums.write(places, channel, write)


def convolution(
    code: Code,
    unit: VectorUnit,
    tile: Tiling,
    window: Window,
    shape: tuple[int, int, int, int],
    image: Image,
    weights: tirx.Buffer,
    write: Writer,
) -> None:
    """A convolution of `shape[0]` images and `shape[1]` groups of `shape[2]` to `shape[3]` channels each.

    Pixels are (image, row, column) of the output. The panels of the groups follow one another.
    """
    images, groups, depth, channels = shape
    sums = _Sums(code, unit, tile)
    width = tile.vectors * unit.lanes
    panels = -(-channels // width)
    row_bytes = window.in_size[1] * depth * _FLOAT_BYTES * window.stride[0]
    with code.loop("image", images) as number, code.loop("group", groups) as group:
        for block, rows in code.blocks("block", window.out_size[0], max(1, unit.block_bytes // row_bytes)):
            for channel, count in code.blocks("panel", channels, width):
                panel = group * panels + channel // width
                with code.loop("row", rows) as turn:
                    row = block + turn
                    for columns in _tiles_of_a_row(code, window, tile.pixels):
                        sums.clear(len(columns.positions), count)
                        for y, tap_row in _rows_of_window(code, window, row):
                            for tap in range(window.kernel[1]):
                                at = (tap_row * window.kernel[1] + tap) * depth
                                readers = columns.readers(window, image, (number, y), tap, group * depth)
                                sums.add_products(depth, readers, weights, panel, at)
                        places = [(number, row, column) for column in columns.positions]
                        sums.write(places, group * channels + channel, write)


def slide(
    code: Code,
    unit: VectorUnit,
    window: Window,
    shape: tuple[int, int],
    image: Image,
    initial: float,
    step: Callable[..., Any],
    write: Writer,
) -> None:
    """A window over `shape[0]` images, for each of `shape[1]` channels alone: a depthwise convolution or a pool.

    `step(result, value, tap, channels)` takes one more value of the window into the result.
    """
    images, channels = shape
    tile = _sliding_tile(unit, window)
    sums = _Sums(code, unit, tile)
    with code.loop("image", images) as number:
        for block, rows in code.blocks("block", window.out_size[0], _ROWS_TOGETHER):
            for line, line_channels in code.blocks("line", channels, max(_LINE, tile.vectors * unit.lanes)):
                with code.loop("row", rows) as turn:
                    row = block + turn
                    for columns in _tiles_of_a_row(code, window, tile.pixels):
                        for start, count in code.blocks("channel", line_channels, tile.vectors * unit.lanes):
                            sums.clear(len(columns.positions), count, initial)
                            for y, tap_row in _rows_of_window(code, window, row):
                                for tap in range(window.kernel[1]):
                                    readers = columns.readers(window, image, (number, y), tap)
                                    at = tap_row * window.kernel[1] + tap
                                    sums.take(readers, line + start, partial(step, tap=at))
                            sums.write([(number, row, column) for column in columns.positions], line + start, write)


def elementwise(code: Code, unit: VectorUnit, shape: Sequence[int], write: Callable[[list[Index]], None]) -> None:
    """Write each element of an output by itself, those of the last axis as vectors."""
    *outer, last = shape

    def nest(axes: list[int], indices: list[Index]) -> None:
        if axes:
            with code.loop("axis", axes[0]) as index:
                nest(axes[1:], [*indices, index])
            return
        for start, count in code.blocks("vector", last, unit.lanes):
            with code.vector(count) as lane:
                write([*indices, start + lane])

    nest(list(outer), [])


class _Sums:
    """The results of a tile, which are registers."""

    def __init__(self, code: Code, unit: VectorUnit, tile: Tiling) -> None:
        self._code = code
        self._unit = unit
        self._stride = tile.vectors * unit.lanes
        # One allocation: of several, TVM makes one registers and the others memory.
        self._sums = code.registers([tile.pixels * (self._stride + _STEP)])
        self._elements = tile.pixels * self._stride
        self._pixels = self._channels = 0

    def clear(self, pixels: int, channels: int, initial: float = 0.0) -> None:
        """Begin a tile of so many pixels and channels."""
        self._pixels, self._channels = pixels, channels
        for pixel in range(pixels):
            for vector, _ in self._vectors():
                self._code.store(
                    self._sums, [self._at(pixel, vector)], splat(tirx.const(initial, "float32"), self._unit.lanes)
                )

    def add_products(
        self, depth: int, readers: Sequence[Reader | None], weights: tirx.Buffer, panel: Index, at: Index
    ) -> None:
        """Add activations times weights over a depth that begins at `at` in the panel; a pixel without reader rests."""
        if not any(readers):
            return
        for start, step in self._code.blocks("depth", depth, _STEP):
            activation = self._activations(readers, start, step)
            for k in range(step):
                for vector, _ in self._vectors():
                    columns = lanes(vector * self._unit.lanes, self._unit.lanes)
                    weight = load(weights, [panel, at + start + k, columns])
                    for pixel, reader in enumerate(readers):
                        if reader:
                            place = [self._at(pixel, vector)]
                            product = splat(activation(pixel, k), self._unit.lanes) * weight
                            self._code.store(self._sums, place, load(self._sums, place) + product)

    def take(self, readers: Sequence[Reader | None], channel: Index, step: Callable[..., Any]) -> None:
        """Take a value of each pixel's channels into the results, which `step` computes from both."""
        for pixel, reader in enumerate(readers):
            for vector, count in self._vectors():
                if reader:
                    channels = lanes(channel + vector * self._unit.lanes, count)
                    place = [self._at(pixel, vector, count)]
                    self._code.store(
                        self._sums, place, step(load(self._sums, place), reader(channels), channels=channels)
                    )

    def write(self, pixels: Sequence[Any], channel: Index, write: Writer) -> None:
        """Hand all results out."""
        for index, pixel in enumerate(pixels):
            for vector, count in self._vectors():
                start = vector * self._unit.lanes
                with self._code.vector(count) as lane:
                    value = load(self._sums, [index * self._stride + start + lane])
                    write(pixel, channel + start + lane, value)

    def _vectors(self) -> list[tuple[int, int]]:
        """The vectors of the tile's channels, and how many of their lanes are used."""
        width = self._unit.lanes
        return [(index, min(width, self._channels - index * width)) for index in range(-(-self._channels // width))]

    def _at(self, pixel: int, vector: int, count: int | None = None) -> Any:
        return lanes(pixel * self._stride + vector * self._unit.lanes, count or self._unit.lanes)

    def _activations(self, readers: Sequence[Reader | None], start: Index, step: int) -> Callable[[int, int], Any]:
        """Gives the activation of a pixel at one of `step` depths from `start`."""
        if not self._unit.by_element or step < _STEP:
            return lambda pixel, k: readers[pixel](start + k)  # type: ignore[misc]
        for pixel, reader in enumerate(readers):
            if reader:
                place = [lanes(self._elements + pixel * _STEP, _STEP)]
                self._code.store(self._sums, place, reader(lanes(start, _STEP)))
        return lambda pixel, k: load(self._sums, [self._elements + pixel * _STEP + k])


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of the output that are computed together."""

    positions: list[Index]

    def readers(
        self, window: Window, image: Image, row: tuple[Index, Index], tap: int, first: Index = 0
    ) -> list[Reader | None]:
        """What reads an (image, row) of the input for each column at an element of the window; None where it is cut.

        Channels count from `first`.
        """

        def read(column: Index, channels: Index) -> Any:
            return image(*row, window.first(column, 1) + tap * window.dilation[1], first + channels)

        return [
            partial(read, column) if not isinstance(column, int) or window.covers(column, tap) else None
            for column in self.positions
        ]


def _tiles_of_a_row(code: Code, window: Window, most: int) -> Iterator[_Columns]:
    """The tiles of a row of the output: those at the sides each by itself, those that no window is cut in by a loop."""
    width = window.out_size[1]
    for start, count, size in pieces(width, even(width, most)):
        begins = [start + turn * size for turn in range(count)]
        inside = [begin for begin in begins if window.is_inside(begin, size)]
        for begin in begins:
            if begin not in inside:
                yield _Columns([begin + index for index in range(size)])
            elif begin == inside[0]:
                with code.loop("tile", len(inside)) as turn:
                    yield _Columns([begin + turn * size + index for index in range(size)])


def _rows_of_window(code: Code, window: Window, row: Index) -> Iterator[tuple[Index, Index]]:
    """Loop over the rows of the window that lie in the image: each one's row of the input, and its number."""
    low, count = window.taps(row, axis=0)
    with code.loop("kernel_row", count) as turn:
        yield window.first(row, 0) + (low + turn) * window.dilation[0], low + turn


def _sliding_tile(unit: VectorUnit, window: Window) -> Tiling:
    """Most registers for results; the others hold weights and what neighbours read in common."""
    vectors = max(1, _INDEPENDENT // unit.lanes)
    if window.out_size[1] == 1:
        return Tiling(1, _INDEPENDENT)
    return Tiling(even(window.out_size[1], _SLIDING_SUMS // vectors), vectors)


def _work(unit: VectorUnit, tile: Tiling, pixels: int, depth: int, channels: int) -> float:
    """Cycles that all tiles take, about.

    They are products, reading operands, fetching weights that the first cache does not keep, and writing, which brings
    in each line that a tile touches.
    """
    reads = 1 / _STEP if unit.by_element else 1
    work = 0.0
    for _, pixel_tiles, height in pieces(pixels, tile.pixels):
        for _, channel_tiles, width in pieces(-(-channels // unit.lanes), tile.vectors):
            products = max(height * width, _INDEPENDENT)
            lines = height * -(-width * unit.lanes // _LINE)
            panel = width * unit.lanes * _FLOAT_BYTES
            missing = min(1.0, depth * panel / unit.first_cache_bytes) * panel / _LINE_BYTES * _MISS_CYCLES
            cycles = depth * (products + (height * reads + width) / 4 + missing) + _WRITE_CYCLES * lines
            work += pixel_tiles * channel_tiles * cycles
    return work
