"""Schedules for GPUs: how the loops of a kernel are divided among work-items.

Images are `[N, H, W, C]`, so that neighbouring work-items, which compute neighbouring channels, read and write
neighbouring memory, four numbers at a time. GPUs of phones are fed through their caches: a work-item keeps what it
adds up in registers, a tile of some pixels of a row and four channels, and so reads a weight once for all its pixels
and a pixel once for all its channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx
from tvm.s_tir.dlight.analysis import SBlockInfo, get_root_block, get_sblock_info
from tvm.s_tir.dlight.base import ScheduleRule
from tvm.target import Target

#: Most work-items of a group: what any of these GPUs runs in step (16 to 128), once or a few times.
_GROUP = 64
#: Numbers of 32 bits that a GPU loads or stores at once. Channels that are no multiple of 4 take up to twice as long.
_LANES = (4, 2, 1)
#: With more pixels, and four channels each, the sums of a work-item do not fit into its registers.
_MOST_PIXELS = 8
#: A work-item gets several pixels only where there are at least so many work-items nevertheless.
_ENOUGH_WORK_ITEMS = 512
#: Fewer results than this leave a GPU idle. Then a sum is shared by the work-items of a group, if it is a long one.
_FEW_RESULTS = 2048
_LONG_SUM = 32
_SHARING = 16
_RESULTS_OF_GROUP = 16


@dataclass(frozen=True)
class _Parts:
    """Blocks of a kernel with one sum: what pads its input, the sum, and what is done with the result."""

    pad: Any | None
    sum: Any
    after: Any | None
    #: Extents of the loops of the results and of the sum.
    results: tuple[int, ...]
    terms: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.results[-1]

    @property
    def row(self) -> int:
        """Pixels of a row, where the results are images."""
        return self.results[-2] if len(self.results) == 4 else 1

    @property
    def is_shared(self) -> bool:
        """Whether several work-items add up one sum, as of linear layers: there, a weight is read only once anyway."""
        few = math.prod(self.results) < _FEW_RESULTS or math.prod(self.results[:-1]) == 1
        return few and math.prod(self.terms) >= _LONG_SUM


class Sums(ScheduleRule):  # type: ignore[misc]  # tvm has no types
    """Kernels with one sum or maximum: convolutions, linear layers, pools, means, and what is fused with them."""

    def apply(self, func: tirx.PrimFunc, target: Target, tunable: bool) -> s_tir.Schedule | None:
        """Schedule the kernel; None where it is of another kind."""
        schedule = s_tir.Schedule(func)
        parts = _parts(schedule)
        if parts is None:
            return None
        if parts.is_shared:
            _share(schedule, parts)
            return schedule
        return _tile(schedule, parts)


class Elementwise(ScheduleRule):  # type: ignore[misc]
    """Kernels that compute each number from a few others: activations, additions, concatenations, other orders."""

    def apply(self, func: tirx.PrimFunc, target: Target, tunable: bool) -> s_tir.Schedule | None:
        """Schedule the kernel; None where it is of another kind."""
        schedule = s_tir.Schedule(func)
        blocks = _inlined(schedule, _blocks(schedule))
        if len(blocks) != 1 or not blocks[0].is_injective():
            return None
        _divide(schedule, blocks[0].block_rv)
        return schedule


def _blocks(schedule: s_tir.Schedule) -> list[SBlockInfo]:
    root = get_root_block(schedule)
    return [get_sblock_info(schedule, block) for block in schedule.get_child_blocks(root)]


def _parts(schedule: s_tir.Schedule) -> _Parts | None:
    blocks = _blocks(schedule)
    sums = [block for block in blocks if block.is_reduction()]
    if len(sums) != 1 or not _is_results_first(sums[0]):
        return None
    blocks = _inlined(schedule, blocks, keep=_padding(schedule, sums[0]))
    at = [block.is_reduction() for block in blocks].index(True)
    if at > 1 or len(blocks) > at + 2:
        return None
    after = blocks[at + 1] if len(blocks) > at + 1 else None
    results = tuple(extent for extent, kind in zip(sums[0].dom(), sums[0].dom_kind(), strict=True) if kind == "S")
    if not all(isinstance(extent, int) for extent in sums[0].dom()):
        return None
    return _Parts(
        blocks[0].block_rv if at else None,
        sums[0].block_rv,
        after.block_rv if after else None,
        results,
        tuple(sums[0].dom()[len(results) :]),
    )


def _is_results_first(block: SBlockInfo) -> bool:
    kinds: str = block.dom_kind()
    return kinds.startswith("S") and not kinds.rstrip("R").strip("S")


def _padding(schedule: s_tir.Schedule, block: SBlockInfo) -> Any | None:
    """The block that writes the image which a convolution reads, with zeros around it."""
    for producer in schedule.get_producers(block.block_rv):
        if schedule.get(producer).name_hint == "pad_temp":
            return producer
    return None


def _inlined(schedule: s_tir.Schedule, blocks: Sequence[SBlockInfo], keep: Any | None = None) -> list[SBlockInfo]:
    """Compute what only one block reads, number by number, where it is read. Gives the blocks that are left."""
    kept = None if keep is None else schedule.get(keep).name_hint
    left = []
    for block in blocks:
        name = block.name
        is_last = not schedule.get_consumers(block.block_rv)
        if block.is_reduction() or not block.is_injective() or is_last or name == kept:
            left.append(block)
        else:
            schedule.compute_inline(block.block_rv)
    return left


def _tile(schedule: s_tir.Schedule, parts: _Parts) -> s_tir.Schedule:
    """One work-item for each tile of some pixels of a row and some channels."""
    result = _separated(schedule, parts)
    lanes = _lanes(parts.channels)
    *outer, channel = schedule.get_loops(result)
    channels, *tile = schedule.split(channel, [None, lanes])
    if len(parts.results) == 4:
        *outer, row = outer
        pieces, pixel = schedule.split(row, [None, _pixels(parts, lanes)])
        outer, tile = [*outer, pieces], [pixel, *tile]
    schedule.reorder(*outer, channels, *tile)
    item = _bind(schedule, [*outer, channels])
    _vectorise(schedule, tile)
    schedule.compute_at(parts.sum, item, preserve_unit_loops=True)
    return _add_up(schedule, parts, tile_rank=len(tile))


def _add_up(schedule: s_tir.Schedule, parts: _Parts, tile_rank: int) -> s_tir.Schedule:
    """Order the loops of a sum within a work-item: over the window, then the channels read, then the tile."""
    loops = schedule.get_loops(parts.sum)[-len(parts.results) - len(parts.terms) :]
    results, terms = loops[: len(parts.results)], loops[len(parts.results) :]
    *window, last = terms
    last, step = schedule.split(last, [None, _lanes(parts.terms[-1])])
    schedule.reorder(*window, last, step, *results)
    schedule.unroll(step)
    _vectorise(schedule, results[-tile_rank:])
    schedule = _load(schedule, parts, last)
    start = schedule.decompose_reduction(parts.sum, [*window, last][0])
    _vectorise(schedule, schedule.get_loops(start)[-tile_rank:])
    return schedule


def _load(schedule: s_tir.Schedule, parts: _Parts, step: Any) -> s_tir.Schedule:
    """Read the pixels of one step into registers first, where they fit there (with strides, some are not needed)."""
    if parts.pad is None:
        return schedule
    trial = schedule.copy()
    trial.set_scope(parts.pad, 0, "local")
    trial.compute_at(parts.pad, step, preserve_unit_loops=True)
    loops = trial.get_loops(parts.pad)[-4:]
    extents = [trial.get(loop).extent for loop in loops]
    most = _MOST_PIXELS * _LANES[0]
    if all(isinstance(extent, tirx.IntImm) for extent in extents) and math.prod(map(int, extents)) <= most:
        _vectorise(trial, loops[-2:])
        return trial
    schedule.compute_inline(parts.pad)
    return schedule


def _share(schedule: s_tir.Schedule, parts: _Parts) -> None:
    """Few results: the work-items of a group add up a part of a sum each."""
    if parts.pad is not None:
        schedule.compute_inline(parts.pad)
    result = _separated(schedule, parts)
    loops = schedule.get_loops(parts.sum)
    results, terms = loops[: len(parts.results)], loops[len(parts.results) :]
    channels, item = schedule.split(results[-1], [None, min(_RESULTS_OF_GROUP, parts.channels)])
    schedule.reorder(*results[:-1], channels, item)
    group = schedule.fuse(*results[:-1], channels)
    turn, sharer = schedule.split(schedule.fuse(*terms), [None, _SHARING])
    schedule.reorder(group, item, sharer, turn)
    schedule.bind(group, "blockIdx.x")
    schedule.bind(item, "threadIdx.x")
    schedule.bind(sharer, "threadIdx.y")
    schedule.reverse_compute_at(result, group, preserve_unit_loops=True)
    schedule.bind(schedule.fuse(*schedule.get_loops(result)[1:]), "threadIdx.x")


def _separated(schedule: s_tir.Schedule, parts: _Parts) -> Any:
    """Let the sum be made in registers. Gives the block that writes the result from there."""
    after = parts.after
    if after is not None and _extents(schedule, after) != parts.results:
        # Each result is used in many places: a kernel of its own reads it from memory.
        _divide(schedule, after)
        after = None
    if after is None:
        return schedule.cache_write(parts.sum, 0, "local")
    schedule.set_scope(parts.sum, 0, "local")
    return after


def _divide(schedule: s_tir.Schedule, block: Any) -> None:
    """One work-item for every few neighbouring numbers of a result."""
    *outer, last = schedule.get_loops(block)
    several, lane = schedule.split(last, [None, _lanes(int(schedule.get(last).extent))])
    _bind(schedule, [*outer, several])
    schedule.vectorize(lane)


def _bind(schedule: s_tir.Schedule, loops: Sequence[Any]) -> Any:
    """Make a group of work-items of what is near in the result; gives the loop over the work-items of a group."""
    groups: list[Any] = []
    items: list[Any] = []
    left = _GROUP
    for loop in reversed(loops):
        near = _piece(int(schedule.get(loop).extent), left)
        group, item = schedule.split(loop, [None, near])
        groups.insert(0, group)
        items.insert(0, item)
        left //= near
    schedule.reorder(*groups, *items)
    schedule.bind(schedule.fuse(*groups), "blockIdx.x")
    item = schedule.fuse(*items)
    schedule.bind(item, "threadIdx.x")
    return item


def _vectorise(schedule: s_tir.Schedule, tile: Sequence[Any]) -> None:
    for loop in tile[:-1]:
        schedule.unroll(loop)
    schedule.vectorize(tile[-1])


def _lanes(length: int) -> int:
    return next(lanes for lanes in _LANES if length % lanes == 0)


def _pixels(parts: _Parts, lanes: int) -> int:
    """Pixels of a tile: about equal pieces of a row, smaller where a GPU would be left idle."""
    rows = math.prod(parts.results[:-2]) * (parts.channels // lanes)
    for most in range(_MOST_PIXELS, 1, -1):
        pixels = _piece(parts.row, most)
        if rows * -(-parts.row // pixels) >= _ENOUGH_WORK_ITEMS:
            return pixels
    return 1


def _piece(length: int, most: int) -> int:
    """Length of the pieces when something is cut into as few and as equal ones as possible, of at most `most`."""
    return -(-length // -(-length // most))


def _extents(schedule: s_tir.Schedule, block: Any) -> tuple[int, ...]:
    return tuple(int(schedule.get(loop).extent) for loop in schedule.get_loops(block))
