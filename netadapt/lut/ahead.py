"""Which workloads to measure ahead of a search, so that the search finds most of what it asks for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from netadapt.network.plan import Plan, PlannedWorkload
from netadapt.network.workload import EMPTY_RUN, Workload

#: A workload of more groups than this (a long concat) is varied in one group at a time.
_MOST_GROUPS = 2


def workloads_ahead(plan: Plan, allowed: Mapping[str, Sequence[int]], points: int) -> list[Workload]:
    """Every workload of the plan at `points` evenly spaced widths of each of its groups, without repetition."""
    chosen = {group: spread(choices, points) for group, choices in allowed.items()}
    found = dict.fromkeys([EMPTY_RUN])
    for step in plan.steps:
        for widths in _combinations(step, plan.original, chosen):
            found[step.at({**plan.original, **widths})] = None
    return list(found)


def spread(choices: Sequence[int], points: int) -> list[int]:
    """At most `points` of the choices, evenly spaced, both ends among them (the last one if there is room for one)."""
    if points >= len(choices):
        return list(choices)
    if points == 1:
        return [choices[-1]]
    return [choices[round(index * (len(choices) - 1) / (points - 1))] for index in range(points)]


def _combinations(
    step: PlannedWorkload, original: Mapping[str, int], chosen: Mapping[str, Sequence[int]]
) -> list[dict[str, int]]:
    groups = step.groups
    if len(groups) <= _MOST_GROUPS:
        return [
            dict(zip(groups, values, strict=True)) for values in itertools.product(*(chosen[group] for group in groups))
        ]
    return [{group: width} for group in groups for width in chosen[group]]
