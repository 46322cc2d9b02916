"""Whether the budgets are met: judged by what was measured, and by what follows from the network alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from netadapt.measure.measurement import Measurement, Tier
from netadapt.search.budget import COUNTED, Budget, Schedule
from netadapt.search.measured import MeasuredNetworks
from netadapt.search.outcome import State

Verdict = Literal["met", "undecided", "not met"]

#: From the best to the worst.
VERDICTS: tuple[Verdict, ...] = ("met", "undecided", "not met")
#: Tiers whose clock is real, so that two measurements of one network differ.
_REAL_CLOCKS: tuple[Tier, ...] = ("local", "device")
#: How far above the measured value the next network is aimed at: more would be shrinking it for the noise of a busy
#: machine.
_MOST_CAUTION = 0.02


@dataclass(frozen=True)
class Judgement:
    """The limit of a budget and the measured cost of the network, with a confidence interval.

    All are shares of the original's cost where `of_original`, else amounts in the metric's base unit.
    """

    metric: str
    of_original: bool
    allowed: float
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Met or not met if the whole interval says so."""
        if self.high <= self.allowed:
            return "met"
        return "not met" if self.low > self.allowed else "undecided"

    @property
    def excess(self) -> float:
        """By which factor the network has to be taken to cost more than is allowed; 1 or less says that it may stay."""
        if self.verdict == "met":
            return 1.0
        return min(self.high, self.value * (1 + _MOST_CAUTION)) / self.allowed


def worst(judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on all budgets together."""
    return max((judgement.verdict for judgement in judgements), key=VERDICTS.index)


@dataclass(frozen=True)
class Judge:
    """Judges networks of a run by its budgets; measures what no earlier judgement has measured.

    A relative latency budget on a real clock is judged by the network and the original measured in turn, so that what
    disturbs one disturbs the other. On a simulated clock all values are exact.
    """

    budgets: Sequence[Budget]
    schedule: Schedule
    networks: MeasuredNetworks

    def judge(self, state: State) -> tuple[Judgement, ...]:
        """One judgement for each budget.

        Raises:
            ModelError, MeasurementError, RunError: a network could not be measured.

        """
        return tuple(self._judge(budget, state) for budget in self.budgets)

    def _judge(self, budget: Budget, state: State) -> Judgement:
        metric = budget.metric
        limit = self.schedule.budget[metric]
        if metric in COUNTED:
            count = state.resources[metric]
            return Judgement(metric, False, limit, count, count, count)
        if not budget.relative:
            return Judgement(metric, False, limit, *_interval(self._cost(state.iteration, metric)))
        if metric == "latency" and self.networks.device.platform.tier in _REAL_CLOCKS:
            found = self.networks.latency_ratio(state.iteration)
            return Judgement(metric, True, budget.amount, found.ratio, found.low, found.high)
        original = self._cost(0, metric)
        allowed = budget.amount * original.value
        return Judgement(metric, False, allowed, *_interval(self._cost(state.iteration, metric), original))

    def _cost(self, iteration: int, metric: str) -> Measurement:
        return self.networks.costs(iteration)[metric]


def excesses(judgements: Sequence[Judgement]) -> Mapping[str, float]:
    """The metrics whose budgets are not met by measurement, each with its excess, if that is one."""
    return {judgement.metric: judgement.excess for judgement in judgements if judgement.excess > 1}


def _interval(*costs: Measurement) -> tuple[float, float, float]:
    """Value of the first and an interval as wide as the uncertainties of all together; without one, anything goes."""
    width = sum(1.0 if cost.relative_half_width is None else cost.relative_half_width for cost in costs)
    value = float(costs[0].value)
    return value, value * max(0.0, 1 - width), value * (1 + width)
