"""One proposal for each channel group: the largest width whose predicted cost meets every limit."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from netadapt.network.plan import Widths
from netadapt.search.budget import Resources
from netadapt.search.metrics import Metric


@dataclass(frozen=True)
class Proposal:
    """A network narrowed in a group, before its short-term fine-tune; `resources` are those that are limited.

    A combination of several has the names of all its groups in `group`, joined by " + ".
    """

    iteration: int
    group: str
    widths: dict[str, int]
    resources: dict[str, float]


def narrowed(before: Widths, after: Widths) -> dict[str, int]:
    """The groups whose width changed, with the width they have now."""
    return {group: width for group, width in after.items() if width != before[group]}


def predict(metrics: Sequence[Metric], widths: Widths) -> dict[str, float]:
    """The predicted cost of a network in each metric."""
    return {metric.name: metric.predict(widths) for metric in metrics}


def meets(resources: Resources, limits: Resources) -> bool:
    """Whether a network that costs `resources` is within all limits."""
    return all(resources[metric] <= limit for metric, limit in limits.items())


def propose(
    iteration: int,
    widths: Mapping[str, int],
    limits: Resources,
    metrics: Sequence[Metric],
    allowed: Mapping[str, Sequence[int]],
) -> list[Proposal]:
    """A proposal for every group of which some width meets all `limits`, in the order of `widths`.

    Only `metrics` that are limited are asked, so that nothing is measured that decides nothing.
    All groups look for their width side by side, so that what they ask the table for is measured in few batches.
    """
    limited = [metric for metric in metrics if metric.name in limits]
    searches = {group: largest_meeting(_narrower(allowed[group], width)) for group, width in widths.items()}
    chosen: dict[str, int] = {}
    pending = {group: next(search, None) for group, search in searches.items()}
    while trials := {group: {**widths, group: width} for group, width in pending.items() if width is not None}:
        for metric in limited:
            metric.prepare(list(trials.values()))
        for group, trial in trials.items():
            resources = predict(limited, trial)
            try:
                pending[group] = searches[group].send(meets(resources, limits))
            except StopIteration as result:
                pending[group] = None
                if result.value is not None:
                    chosen[group] = result.value
    proposed = {group: {**widths, group: chosen[group]} for group in widths if group in chosen}
    return [Proposal(iteration, group, trial, predict(limited, trial)) for group, trial in proposed.items()]


def largest_meeting(widths: Sequence[int]) -> Generator[int, bool, int | None]:
    """Find the largest of the descending `widths` that meets the limits; yields one to try, takes whether it does.

    Costs are taken to fall with the width. Strides that double from the top keep the tries, which may have to be
    measured, near the current width.
    """
    if not widths:
        return None
    position, fails, stride = 0, -1, 1
    while not (yield widths[position]):
        if position == len(widths) - 1:
            return None
        fails = position
        position = min(position + stride, len(widths) - 1)
        stride *= 2
    while position - fails > 1:
        middle = (position + fails) // 2
        if (yield widths[middle]):
            position = middle
        else:
            fails = middle
    return widths[position]


def _narrower(allowed: Sequence[int], width: int) -> list[int]:
    return [choice for choice in reversed(allowed) if choice < width]
