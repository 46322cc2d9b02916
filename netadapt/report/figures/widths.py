"""Widths of all channel groups over the iterations: which parts of the network gave way, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from netadapt.report.amounts import percent
from netadapt.report.canvas import Canvas
from netadapt.report.drawing import HEAT_STEPS, Sheet, colour, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Letters of a group's name, on a wide and on a narrow canvas.
_LONGEST_NAME, _LONGEST_NARROW_NAME = 34, 18


@dataclass(frozen=True)
class WidthHistory:
    """Widths of each group, in order of execution, after 0, 1, 2, ... iterations."""

    groups: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def iterations(self) -> int:
        """How many iterations there were."""
        return len(self.groups[0][1]) - 1


def draw(history: WidthHistory, canvas: Canvas) -> Sheet:
    """A row for each group; a block lasts as long as its width, whose number stands in it where there is room."""
    pitch = 24
    left, right, top = _name_space(history, canvas), 46, 74
    sheet = Sheet(canvas, top + pitch * len(history.groups) + 44)
    _heat_key(sheet)
    axes = sheet.panel(left, top, canvas.width - left - right, pitch * len(history.groups))
    columns = history.iterations + 1
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(len(history.groups), 0), yticks=[])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    column_px = (canvas.width - left - right) / columns
    for row, (_, widths) in enumerate(history.groups):
        for start, length in _spells(widths):
            share = widths[start] / widths[0]
            _block(sheet, axes, (start, row, length), share, str(widths[start]), column_px)
        sheet.text(
            canvas.width - right + 8, top + pitch * (row + 0.5) + 4, percent(widths[-1] / widths[0], 0),
            color=colour("ink" if widths[-1] < widths[0] else "muted"),
        )  # fmt: skip
    for row, (group, _) in enumerate(history.groups):
        sheet.text(left - 8, top + pitch * (row + 0.5) + 4, _name(group, canvas), ha="right", color=colour("ink"))
    _ticks(axes, columns, column_px)
    axes.tick_params(pad=4)
    sheet.text(left, top - 12, "channels of each group", size=canvas.label_px)
    sheet.text(canvas.width - right + 8, top - 12, "kept", color=colour("muted"))
    sheet.axis_titles(axes, "iteration", "")
    return sheet


def _block(sheet: Sheet, axes: Axes, place: tuple[int, int, int], share: float, number: str, column_px: float) -> None:
    from matplotlib.patches import Rectangle

    start, row, length = place
    step = _heat_step(share)
    gap = 1 / column_px
    axes.add_patch(
        Rectangle((start - 0.5 + gap / 2, row + 0.05), length - gap, 0.9, facecolor=colour(f"heat{step}"), linewidth=0)
    )
    size = sheet.canvas.note_px
    if length * column_px >= 0.66 * size * len(number) + 6:
        axes.annotate(
            number, (start - 0.5, row + 0.5), (5, -0.36 * size), textcoords="offset points",
            size=size, color=colour(f"heat{step}-text"),
        )  # fmt: skip


def _heat_key(sheet: Sheet) -> None:
    """What the colours mean, above the panel."""
    from matplotlib.patches import Rectangle

    y, box = 16, 14 if sheet.canvas.narrow else 18
    left = 12.8 * sheet.canvas.note_px
    sheet.text(0, y, "share of its original width")
    sheet.text(left + 30, y, percent(0, 0), ha="right", color=colour("muted"))
    for step in range(HEAT_STEPS):
        corner = ((left + 36 + step * box) / sheet.canvas.width, 1 - (y + 3) / sheet.height)
        size = (box / sheet.canvas.width, 14 / sheet.height)
        sheet.figure.add_artist(
            Rectangle(corner, *size, transform=sheet.figure.transFigure, fc=colour(f"heat{step}"), linewidth=0)
        )
    sheet.text(left + 42 + HEAT_STEPS * box, y, percent(1, 0), color=colour("muted"))


def _spells(widths: Sequence[int]) -> list[tuple[int, int]]:
    """First iteration and number of iterations of each width that a group had."""
    spells, start = [], 0
    for _, members in groupby(widths):
        length = len(list(members))
        spells.append((start, length))
        start += length
    return spells


def _heat_step(share: float) -> int:
    return min(int(share * HEAT_STEPS), HEAT_STEPS - 1)


def _ticks(axes: Axes, columns: int, column_px: float) -> None:
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * column_px >= 24)
    axes.set_xticks(range(0, columns, every))


def _name_space(history: WidthHistory, canvas: Canvas) -> float:
    longest = max(len(_name(group, canvas)) for group, _ in history.groups)
    return 0.62 * canvas.note_px * longest + 14


def _name(group: str, canvas: Canvas) -> str:
    return shortened(group, _LONGEST_NARROW_NAME if canvas.narrow else _LONGEST_NAME)
