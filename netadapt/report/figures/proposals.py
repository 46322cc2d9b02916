"""Proposals of each iteration: what the search could choose from, and what it chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

from netadapt.report.amounts import SPACE, scale_for
from netadapt.report.canvas import Canvas
from netadapt.report.drawing import KeyEntry, Sheet, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network with its predicted cost in the metric's base unit and its accuracy, a share of 1."""

    cost: float
    accuracy: float


@dataclass(frozen=True)
class Step:
    """An iteration: all proposals, and the accepted one; None while the iteration is still in progress."""

    proposals: tuple[Candidate, ...]
    accepted: Candidate | None


@dataclass(frozen=True)
class Path:
    """The way of a search from the original network on."""

    original: Candidate
    steps: tuple[Step, ...]
    #: Base unit of the cost, and its name.
    unit: str
    cost_name: str
    limit: float | None = None
    #: The last network after its long fine-tune.
    fine_tuned: Candidate | None = None

    @property
    def accepted(self) -> list[Candidate]:
        """The original and all accepted networks."""
        return [self.original, *(step.accepted for step in self.steps if step.accepted)]


def hidden_below(path: Path) -> tuple[float, int]:
    """The accuracy below which proposals are shown at the lower edge, and how many those are.

    A proposal that destroys the network would press all others into a line.
    """
    accepted = [candidate.accuracy for candidate in path.accepted]
    accepted += [path.fine_tuned.accuracy] if path.fine_tuned else []
    proposed = sorted(candidate.accuracy for step in path.steps for candidate in step.proposals)
    tenth = proposed[len(proposed) // 10] if proposed else min(accepted)
    spread = max(*accepted, *proposed, 0) - min(accepted)
    floor = max(min(tenth, min(accepted)), min(accepted) - max(2 * spread, 0.02))
    return floor, sum(accuracy < floor for accuracy in proposed)


def draw(path: Path, canvas: Canvas) -> Sheet:
    """Each proposal hangs on the network it was made from; the accepted ones are joined."""
    key = _key(path, canvas)
    columns = 1 if canvas.narrow else 2
    top = 14 + 20 * -(-len(key) // columns) + 34
    left, height = (56, 320) if canvas.narrow else (64, 400)
    sheet = Sheet(canvas, top + height + 46)
    sheet.key(key, 0, 14, columns)
    axes = sheet.panel(left, top, canvas.width - left - (56 if canvas.narrow else 66), height)
    floor, _ = hidden_below(path)
    costs = [c.cost for c in path.accepted] + [c.cost for step in path.steps for c in step.proposals]
    scale = scale_for(costs, path.unit)
    _fans(axes, path, scale.divisor, floor)
    proposed = [candidate for step in path.steps for candidate in step.proposals]
    _points(axes, [c for c in proposed if c.accuracy >= floor], scale.divisor, floor, _PROPOSAL)
    _points(axes, [c for c in proposed if c.accuracy < floor], scale.divisor, floor, _BELOW)
    _points(axes, path.accepted, scale.divisor, floor, _ACCEPTED)
    if path.fine_tuned:
        _points(axes, [path.fine_tuned], scale.divisor, floor, _FINE_TUNED)
    _mark_ends(axes, path, scale.divisor, canvas)
    axes.margins(0.06)
    axes.locator_params(nbins=5 if canvas.narrow else 7)
    sheet.axis_titles(axes, f"predicted {path.cost_name}, {scale.unit}", "hold-out accuracy, %")
    return sheet


_PROPOSAL: dict[str, Any] = {
    "marker": "o",
    "ms": 5,
    "mfc": colour("grey"),
    "mec": colour("paper"),
    "mew": 0.6,
    "ls": "none",
}
_BELOW: dict[str, Any] = {"marker": "v", "ms": 6, "mfc": "none", "mec": colour("grey"), "mew": 1.2, "ls": "none"}
_ACCEPTED: dict[str, Any] = {
    "marker": "o", "ms": 8, "mfc": colour("blue"), "mec": colour("paper"), "mew": 1, "color": colour("blue"), "lw": 1.8,
}  # fmt: skip
_FINE_TUNED: dict[str, Any] = {
    "marker": "*", "ms": 15, "mfc": colour("vermilion"), "mec": colour("paper"), "mew": 0.8, "ls": "none",
}  # fmt: skip
_LIMIT: dict[str, Any] = {"color": colour("vermilion"), "lw": 1.2, "ls": (0, (4, 3))}


def _key(path: Path, canvas: Canvas) -> list[KeyEntry]:
    floor, below = hidden_below(path)
    entries = [KeyEntry("accepted networks, from the original on", _ACCEPTED), KeyEntry("other proposals", _PROPOSAL)]
    if below:
        entries.append(KeyEntry(f"proposals below {100 * floor:.1f}{SPACE}%", _BELOW))
    if path.fine_tuned:
        entries.append(KeyEntry("after the long fine-tune", _FINE_TUNED))
    if path.limit is not None:
        entries.append(KeyEntry("budget", _LIMIT))
    return entries


def _fans(axes: Axes, path: Path, divisor: float, floor: float) -> None:
    """A line from each proposal to the network that it was made from, all in one path: there can be thousands."""
    xs: list[float] = []
    ys: list[float] = []
    source = path.original
    for step in path.steps:
        for proposal in step.proposals:
            xs += [source.cost / divisor, proposal.cost / divisor, nan]
            ys += [100 * source.accuracy, 100 * max(proposal.accuracy, floor), nan]
        source = step.accepted or source
    axes.plot(xs, ys, color=colour("rule"), lw=0.9, zorder=1.5)


def _points(axes: Axes, candidates: Sequence[Candidate], divisor: float, floor: float, style: dict[str, Any]) -> None:
    axes.plot(
        [candidate.cost / divisor for candidate in candidates],
        [100 * max(candidate.accuracy, floor) for candidate in candidates],
        zorder=4 if style is not _PROPOSAL else 2, **style,
    )  # fmt: skip


def _mark_ends(axes: Axes, path: Path, divisor: float, canvas: Canvas) -> None:
    if path.limit is not None:
        axes.axvline(path.limit / divisor, zorder=1, **_LIMIT)
    axes.annotate(
        "original", (path.original.cost / divisor, 100 * path.original.accuracy), (11, -4),
        textcoords="offset points", size=canvas.note_px, color=colour("ink"), ha="left", annotation_clip=False,
    )  # fmt: skip
