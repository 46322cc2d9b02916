"""Estimated against measured latency: how far the look-up table can be trusted on networks it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt.report.amounts import change, percent, scale_for
from netadapt.report.canvas import Canvas
from netadapt.report.drawing import KeyEntry, Sheet, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The paper's measure of a good table: predictions within 10 %.
BAND = 0.10
#: Latencies that differ more than this many times are shown on logarithmic axes.
_WIDE_RANGE = 5


@dataclass(frozen=True)
class Pairs:
    """What should be equal, as (estimated, measured) or (second, first) in ns."""

    label: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def errors(self) -> list[float]:
        """Relative differences."""
        return [value / reference - 1 for value, reference in self.pairs]

    @property
    def bias(self) -> float:
        """Mean error; above 0 there is too much."""
        return sum(self.errors) / len(self.errors)

    @property
    def mape(self) -> float:
        """Mean absolute error."""
        return sum(map(abs, self.errors)) / len(self.errors)

    @property
    def within_band(self) -> float:
        """Share of the pairs that differ by 10 % at most."""
        return sum(abs(error) <= BAND for error in self.errors) / len(self.errors)


@dataclass(frozen=True)
class Agreement:
    """Random networks, networks of a run, and the noise floor (A/A): the same network measured twice."""

    random: Pairs
    run: Pairs | None
    noise: Pairs | None

    @property
    def predicted(self) -> list[Pairs]:
        """Pairs of estimate and measurement, the more numerous first."""
        return [pairs for pairs in (self.random, self.run) if pairs and pairs.pairs]

    @property
    def all(self) -> list[Pairs]:
        """All that there is."""
        return [*self.predicted, *([self.noise] if self.noise and self.noise.pairs else [])]


_STYLES: tuple[dict[str, Any], ...] = (
    {"marker": "o", "ms": 6, "mfc": "none", "mec": colour("blue"), "mew": 1.4, "ls": "none"},
    {"marker": "D", "ms": 6, "mfc": colour("vermilion"), "mec": colour("paper"), "mew": 0.8, "ls": "none"},
)
_NOISE: dict[str, Any] = {"marker": "|", "ms": 11, "mec": colour("grey"), "mew": 1.6, "ls": "none"}


def draw(agreement: Agreement, canvas: Canvas) -> Sheet:
    """A square of estimated against measured, and beside it (below, on a narrow canvas) the errors."""
    if canvas.narrow:
        side = canvas.width - 52 - 8
        strips = 92 * len(agreement.all)
        sheet = Sheet(canvas, 84 + side + 84 + strips + 46)
        _square(sheet, agreement, (52, 84, side, side))
        _strips(sheet, agreement, (8, 84 + side + 84, canvas.width - 16, strips))
    else:
        side, strips = 400, min(400, 130 * len(agreement.all))
        sheet = Sheet(canvas, 70 + side + 46)
        _square(sheet, agreement, (64, 70, side, side))
        _strips(sheet, agreement, (64 + side + 60, 70 + side - strips, canvas.width - 64 - side - 60 - 12, strips))
    key = [KeyEntry(pairs.label, style) for pairs, style in zip(agreement.predicted, _STYLES, strict=False)]
    sheet.key(key, 0, 14, columns=1 if canvas.narrow else 3)
    return sheet


def _square(sheet: Sheet, agreement: Agreement, box: tuple[float, float, float, float]) -> None:
    axes = sheet.panel(*box)
    values = [value for pairs in agreement.predicted for pair in pairs.pairs for value in pair]
    scale = scale_for(values, "ns")
    low, high = min(values) / scale.divisor, max(values) / scale.divisor
    if high / low > _WIDE_RANGE:
        low, high = low / 1.15, high * 1.15
        _logarithmic(axes, low, high)
    else:
        margin = 0.07 * (high - low or high)
        low, high = low - margin, high + margin
        axes.locator_params(nbins=5 if sheet.canvas.narrow else 6)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.fill_between(
        [low, high], [low * (1 - BAND), high * (1 - BAND)], [low * (1 + BAND), high * (1 + BAND)],
        color=colour("band"), linewidth=0, zorder=0.4,
    )  # fmt: skip
    axes.plot([low, high], [low, high], color=colour("muted"), linewidth=1, zorder=1)
    for pairs, style in zip(agreement.predicted, _STYLES, strict=False):
        axes.plot(
            [measured / scale.divisor for _, measured in pairs.pairs],
            [estimated / scale.divisor for estimated, _ in pairs.pairs],
            zorder=3, **style,
        )  # fmt: skip
    _name_band(axes, sheet.canvas, low, high)
    sheet.axis_titles(axes, f"measured latency, {scale.unit}", f"estimated latency, {scale.unit}")


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """Scale both axes, with a tick at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ticks = [step * 10.0**decade for decade in range(-6, 7) for step in (1, 2, 5)]
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def _name_band(axes: Axes, canvas: Canvas, low: float, high: float) -> None:
    """Say what the band is, inside the panel where its upper edge leaves it."""
    edge = high / (1 + BAND) / 1.15 if axes.get_xscale() == "log" else low + 0.86 * (high - low)
    edge = min(edge, high / (1 + BAND))
    axes.annotate(
        f"\N{PLUS-MINUS SIGN}{percent(BAND, 0)}",
        (edge, edge * (1 + BAND)),
        (-6, -2),
        textcoords="offset points",
        size=canvas.note_px,
        color=colour("muted"),
        ha="right",
        va="top",
        annotation_clip=False,
    )


def _strips(sheet: Sheet, agreement: Agreement, box: tuple[float, float, float, float]) -> None:
    """One strip of errors for each kind, on a common axis, with bias and mean error written above it."""
    axes = sheet.panel(*box)
    reach = 100 * max(1.25 * BAND, *(1.1 * abs(error) for pairs in agreement.all for error in pairs.errors))
    axes.set(xlim=(-reach, reach), ylim=(len(agreement.all), 0), yticks=[])
    axes.grid(visible=False)
    styles = [*_STYLES[: len(agreement.predicted)], _NOISE]
    for index, (pairs, style) in enumerate(zip(agreement.all, styles, strict=False)):
        _strip(axes, sheet.canvas, index, pairs, style)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: change(value / 100, 0) if value else "0")
    sheet.axis_titles(axes, "difference", "")


def _strip(axes: Axes, canvas: Canvas, index: int, pairs: Pairs, style: dict[str, Any]) -> None:
    errors = sorted(100 * error for error in pairs.errors)
    upper, lower = index + 0.42, index + 0.92
    axes.fill_betweenx([upper, lower], -100 * BAND, 100 * BAND, color=colour("band"), linewidth=0, zorder=0.4)
    axes.plot([0, 0], [upper, lower], color=colour("muted"), linewidth=1, zorder=1)
    axes.plot(errors, _spread(errors, (upper + lower) / 2, 0.17), zorder=3, **style)
    words = [(0, pairs.label, "ink"), (canvas.note_px + 4, _summary(pairs), "muted")]
    for offset, text, token in words:
        axes.annotate(
            text, (0, index), (2, -canvas.note_px - 4 - offset), xycoords=("axes fraction", "data"),
            textcoords="offset points", size=canvas.note_px, color=colour(token),
        )  # fmt: skip


def _summary(pairs: Pairs) -> str:
    return f"bias {change(pairs.bias)}, mean error (MAPE) {percent(pairs.mape)}"


def _spread(values: Sequence[float], middle: float, reach: float) -> list[float]:
    """Heights that keep neighbours of a sorted strip apart, the same ones whenever it is drawn."""
    if len(values) < 8:
        return [middle] * len(values)
    return [middle + reach * ((index * 3 % 5) - 2) / 2 for index in range(len(values))]
