"""Steps that follow accuracy: larger while it does not suffer, smaller when it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netadapt.search.budget import Resources, Schedule
from netadapt.search.image_results import difference
from netadapt.train.task import ImageResults

#: The first step, in multiples of the paper's.
_FIRST = 2.0
_GROWTH = 1.1
_SHRINKAGE = 0.5
#: Hold-out score that an iteration may lose for the next step to be larger, and, beyond its standard error, to be no
#: smaller: a few images that happen to go wrong are no reason to take twice as long.
_HARMLESS = 0.002
_TOLERATED = 0.005


@dataclass(frozen=True)
class AdaptiveSteps:
    """The limits of each iteration, each step a share of the whole way from the original network to the budget."""

    schedule: Schedule

    def limits(self, resources: Resources, history: Iterable[tuple[ImageResults, ImageResults]]) -> dict[str, float]:
        """What the next network may cost.

        Args:
            resources: what the present one costs.
            history: for each iteration so far, hold-out results before and after it; what is known of their images
                decides the step, so that a resumed search makes the same ones.

        """
        share = self.first
        for before, after in history:
            share = _next(share, before, after)
        return {metric: self._limit(metric, resources[metric], share) for metric in self.schedule.budget}

    @property
    def first(self) -> float:
        """The first step as a share of the whole way."""
        return min(1.0, _FIRST * self.schedule.first_share)

    def _limit(self, metric: str, cost: float, share: float) -> float:
        budget = self.schedule.budget[metric]
        step = share * (self.schedule.original[metric] - budget)
        left = cost - budget
        # A rest that is small against the step is not worth an iteration of its own.
        return budget if left <= step * (1 + _SHRINKAGE) else cost - step


def _next(share: float, before: ImageResults, after: ImageResults) -> float:
    lost = difference(before.scores, after.scores)
    if lost.mean <= _HARMLESS:
        return share * _GROWTH
    return share if lost.mean - lost.error <= _TOLERATED else share * _SHRINKAGE
