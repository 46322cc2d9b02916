"""Where a network's time goes before and after its adaptation, layer by layer in order of execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from netadapt.report.amounts import Scale, percent, scale_for
from netadapt.report.canvas import Canvas
from netadapt.report.drawing import KeyEntry, Sheet, colour, shortened

#: Networks of more layers have the small ones folded, those below this share of the original's time.
_MOST_ROWS = 16
SMALL_SHARE = 0.02
_LONGEST_TITLE = 40


@dataclass(frozen=True, slots=True)
class Layer:
    """A workload of the original network, the one it became, and their latencies by the table."""

    before: str
    after: str
    before_ns: float
    after_ns: float

    @property
    def title(self) -> str:
        """Kind and sizes, and how its channels changed."""
        old, new = self.before.split(), self.after.split()
        if len(old) < 2 or len(old) != len(new) or "->" not in old[1] or "->" not in new[1]:
            return self.before
        rest = " ".join(old[2:4])
        return f"{old[0].replace('_', ' ')} {rest}, {_arrow(old[1])}" + (
            f", now {_arrow(new[1])}" if old[1] != new[1] else ""
        )


@dataclass(frozen=True, slots=True)
class Row:
    """What one pair of bars stands for."""

    title: str
    before_ns: float
    after_ns: float
    layers: int


def rows(layers: Sequence[Layer]) -> list[Row]:
    """A row for each layer; of many, neighbours that take little time before and after share one."""
    total = sum(layer.before_ns for layer in layers)
    fold = len(layers) > _MOST_ROWS

    def is_small(layer: Layer) -> bool:
        return fold and max(layer.before_ns, layer.after_ns) < SMALL_SHARE * total

    found: list[Row] = []
    for small, members in groupby(layers, is_small):
        neighbours = list(members)
        found += [_fold(neighbours)] if small else map(_row, neighbours)
    return found


def draw(layers: Sequence[Layer], canvas: Canvas) -> Sheet:
    """Paired horizontal bars; the difference is what the adaptation saved there."""
    shown = rows(layers)
    scale = scale_for([value for row in shown for value in (row.before_ns, row.after_ns)], "ns")
    pitch = 50 if canvas.narrow else 30
    left, right, top = (4 if canvas.narrow else 330), (96 if canvas.narrow else 120), 44
    sheet = Sheet(canvas, top + pitch * len(shown) + 44)
    sheet.key(_key(layers, scale, canvas), 0, 14, columns=2)
    axes = sheet.panel(left, top, canvas.width - left - right, pitch * len(shown))
    axes.set(ylim=(len(shown), 0), yticks=[])
    axes.grid(visible=False, axis="y")
    bar = 10 / pitch
    middle = 0.68 if canvas.narrow else 0.5
    centres = [row + middle for row in range(len(shown))]
    for offset, token, values in (
        (-bar / 2, "fog", [row.before_ns for row in shown]),
        (bar / 2, "blue", [row.after_ns for row in shown]),
    ):
        axes.barh(
            [centre + offset for centre in centres], [value / scale.divisor for value in values],
            height=bar, color=colour(token), linewidth=0,
        )  # fmt: skip
    axes.set_xlim(left=0)
    for index, row in enumerate(shown):
        y = top + pitch * (index + middle) + 4
        _name(sheet, row, left, y)
        end = (
            left + (canvas.width - left - right) * max(row.before_ns, row.after_ns) / scale.divisor / axes.get_xlim()[1]
        )
        sheet.text(end + 6, y, _numbers(row, scale))
    axes.locator_params(axis="x", nbins=5)
    sheet.axis_titles(axes, f"latency by the table, {scale.unit}", "")
    return sheet


def _numbers(row: Row, scale: Scale) -> str:
    before, after = scale.number(row.before_ns), scale.number(row.after_ns)
    return before if before == after else f"{before} \N{RIGHTWARDS ARROW} {after}"


def _name(sheet: Sheet, row: Row, left: float, y: float) -> None:
    title = shortened(row.title, _LONGEST_TITLE)
    token = "muted" if row.layers > 1 else "ink"
    if sheet.canvas.narrow:
        sheet.text(left, y - 18, title, color=colour(token))
    else:
        sheet.text(left - 12, y, title, ha="right", color=colour(token))


def _key(layers: Sequence[Layer], scale: Scale, canvas: Canvas) -> list[KeyEntry]:
    before, after = sum(layer.before_ns for layer in layers), sum(layer.after_ns for layer in layers)
    word = "" if canvas.narrow else "all layers "
    return [
        KeyEntry(f"before: {word}{scale.text(before)}", {"color": colour("fog"), "lw": 9, "solid_capstyle": "butt"}),
        KeyEntry(f"after: {word}{scale.text(after)}", {"color": colour("blue"), "lw": 9, "solid_capstyle": "butt"}),
    ]


def _row(layer: Layer) -> Row:
    return Row(layer.title, layer.before_ns, layer.after_ns, 1)


def _fold(layers: Sequence[Layer]) -> Row:
    if len(layers) == 1:
        return _row(layers[0])
    title = f"{len(layers)} layers below {percent(SMALL_SHARE, 0)} each"
    return Row(title, sum(layer.before_ns for layer in layers), sum(layer.after_ns for layer in layers), len(layers))


def _arrow(channels: str) -> str:
    return channels.replace("->", "\N{RIGHTWARDS ARROW}")


def pair(before: Iterable[tuple[str, float]], after: Iterable[tuple[str, float]]) -> list[Layer]:
    """Layers from (workload, ns) of the network before and after.

    Raises:
        ValueError: they are not of the same network.

    """
    return [Layer(old, new, old_ns, new_ns) for (old, old_ns), (new, new_ns) in zip(before, after, strict=True)]
