"""What a network may cost, and by how much each iteration has to make it cheaper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netadapt.errors import BudgetError, UnknownNameError
from netadapt.measure.platform import Platform
from netadapt.wording import counted

Resources = Mapping[str, float]
"""Cost by metric: latency in ns, energy in pJ, macs and params as counts."""

UNITS: dict[str, dict[str, float]] = {
    "latency": {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9},
    "energy": {"pj": 1, "nj": 1e3, "uj": 1e6, "mj": 1e9},
    "macs": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9},
    "params": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9},
}
"""Metrics that a budget can limit, and the units in which it can be given."""

#: Metrics that follow from the network alone.
COUNTED = ("macs", "params")

_BUDGET = re.compile(r"(?P<metric>[a-z_]+)=(?P<number>[0-9.]+(?:e[+-]?[0-9]+)?)(?P<unit>[a-z]*|%)", re.IGNORECASE)

#: The unit that is meant most often where none, or a wrong one, is given to a metric that has to have one.
_USUAL_UNITS = {"latency": "ms", "energy": "mJ"}


@dataclass(frozen=True)
class Budget:
    """A limit on one metric: `amount` in the metric's base unit, or times the original where `relative`."""

    metric: str
    amount: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `latency=0.6x`, `latency=20ms`, `macs=3M`, `params=200k`.

        Raises:
            UnknownNameError: the metric does not exist.
            BudgetError: the text is not a budget, or its number is out of range.

        """
        match = _BUDGET.fullmatch(text.strip())
        if match is None:
            raise BudgetError(f"budget {text!r} is not METRIC=AMOUNT, such as latency=0.6x, latency=20ms or macs=3M")
        metric, unit = match["metric"].lower(), match["unit"].lower()
        if metric not in UNITS:
            raise UnknownNameError("metric", metric, tuple(UNITS))
        amount = _number(text, match["number"])
        if unit == "x":
            if not amount < 1:
                meant = _did_you_mean(f"{metric}={1 / amount:.3g}x", f"1/{match['number']} of the original")
                raise BudgetError(
                    f"budget {text!r} is met already: give less than 1x of the original{meant if amount > 1 else ''}"
                )
            return cls(metric, amount, relative=True)
        if unit not in UNITS[metric]:
            units = ", ".join(["x", *(unit for unit in UNITS[metric] if unit)])
            wrong = f"{metric} has no unit {match['unit']!r}" if unit else f"{metric} needs a unit"
            meant = _without_its_unit(metric, amount, match["number"], unit)
            raise BudgetError(f"budget {text!r}: {wrong}; use one of: {units}{meant}")
        if metric in COUNTED and amount * UNITS[metric][unit] < 1:
            meant = _did_you_mean(f"{metric}={match['number']}x", f"{match['number']} times the original")
            raise BudgetError(f"budget {text!r}: no network has less than 1 of {metric}{'' if unit else meant}")
        return cls(metric, amount * UNITS[metric][unit], relative=False)

    def limit(self, original: float) -> float:
        """The limit in the metric's base unit for a network that costs `original`.

        Raises:
            BudgetError: the original network costs no more than that.

        """
        limit = self.amount * original if self.relative else self.amount
        if limit >= original:
            raise BudgetError(
                f"the budget of {in_words(self.metric, limit)} for {self.metric} is met already: "
                f"the network costs {in_words(self.metric, original)}"
            )
        return limit

    def __str__(self) -> str:
        return f"{self.metric}={self.amount:g}{'x' if self.relative else ''}"


def in_words(metric: str, value: float) -> str:
    """Return a cost in the base unit as people read it: "27.824 us", "760.33 uJ", "384,064"."""
    if metric in COUNTED:
        return f"{value:,.0f}"
    unit, scale = max(
        ((unit, scale) for unit, scale in UNITS[metric].items() if scale <= max(value, 1)), key=lambda found: found[1]
    )
    return f"{value / scale:.5g} {unit.replace('j', 'J')}"


def _without_its_unit(metric: str, amount: float, digits: str, unit: str) -> str:
    """Guess what an amount without a unit of the metric was meant to be."""
    if unit == "%":
        return _did_you_mean(f"{metric}={amount / 100:g}x", f"{digits} % of the original") if amount < 100 else ""
    if not unit and amount < 1:
        return _did_you_mean(f"{metric}={digits}x", f"{digits} times the original")
    usual = _USUAL_UNITS.get(metric)
    return _did_you_mean(f"{metric}={digits}{usual}") if usual else ""


def _did_you_mean(budget: str, meaning: str = "") -> str:
    return f"; did you mean {budget}{f' ({meaning})' if meaning else ''}?"


def _number(text: str, digits: str) -> float:
    try:
        amount = float(digits)
    except ValueError:
        raise BudgetError(f"budget {text!r}: {digits!r} is not a number") from None
    if not 0 < amount < float("inf"):
        raise BudgetError(f"budget {text!r}: the amount must be above 0")
    return amount


def parse_budgets(texts: Sequence[str]) -> tuple[Budget, ...]:
    """Read several budgets, at most one for each metric."""
    budgets = tuple(Budget.parse(text) for text in texts)
    metrics = [budget.metric for budget in budgets]
    if not budgets:
        raise BudgetError("no budget given; say what the network may cost, such as --budget latency=0.6x")
    if len(set(metrics)) < len(metrics):
        raise BudgetError(f"more than one budget for the same metric: {', '.join(map(str, budgets))}")
    return budgets


def require_metrics(platform: Platform, metrics: Sequence[str]) -> None:
    """Raise UnknownNameError unless each metric is counted (macs, params) or measured by the platform."""
    for metric in metrics:
        if metric not in COUNTED and metric not in platform.metrics:
            raise UnknownNameError(f"metric of platform {platform.name}", metric, (*platform.metrics, *COUNTED))


@dataclass(frozen=True)
class Pace:
    """How the reduction is spread over the iterations: step i is `first * decay**i` (paper, section 4.1.2).

    Without `initial_reduction` (a share of the original cost) the first step is such that `iterations` steps arrive
    exactly at the budget.
    """

    iterations: int = 20
    decay: float = 0.96
    initial_reduction: float | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise BudgetError(f"{counted(self.iterations, 'iteration')}; at least 1 is needed")
        if not 0 < self.decay <= 1:
            raise BudgetError(f"a decay of {self.decay:g}; it must be above 0 and at most 1")
        if self.initial_reduction is not None and not 0 < self.initial_reduction < 1:
            raise BudgetError(f"an initial reduction of {self.initial_reduction:g}; it must be between 0 and 1")

    @property
    def steps(self) -> float:
        """All steps together, in multiples of the first one."""
        return sum(self.decay**index for index in range(self.iterations))


@dataclass(frozen=True)
class Schedule:
    """The limits of each iteration, from the cost of the original network down to the budget."""

    pace: Pace
    original: Resources
    budget: Resources

    def __post_init__(self) -> None:
        """Check that the steps reach the budget.

        Raises:
            BudgetError: they do not; says with which numbers they would.

        """
        share = self.pace.initial_reduction
        if share is None:
            return
        for metric, limit in self.budget.items():
            needed = 1 - limit / self.original[metric]
            if share * self.pace.steps < needed * (1 - 1e-9):
                raise BudgetError(
                    f"the schedule cannot reach the budget: {counted(self.pace.iterations, 'iteration')} from "
                    f"{share:.1%} on, with a decay of {self.pace.decay:g}, can reduce {metric} by "
                    f"{share * self.pace.steps:.1%}, "
                    f"but {needed:.1%} are needed; use an initial reduction of {needed / self.pace.steps:.2%} or more"
                    f"{self._enough_iterations(share, needed)}"
                )

    def limits(self, iteration: int, resources: Resources) -> dict[str, float]:
        """What a proposal of `iteration` (0 is the first) may cost, made from a network that costs `resources`."""
        return {
            metric: max(limit, resources[metric] - self._reduction(metric, iteration))
            for metric, limit in self.budget.items()
        }

    @property
    def first_share(self) -> float:
        """The first step as a share of the whole way to the budget, of the metric that is nearest to it."""
        share = self.pace.initial_reduction
        if share is None:
            return 1 / self.pace.steps
        return max(share / (1 - limit / self.original[metric]) for metric, limit in self.budget.items())

    def is_met(self, resources: Resources) -> bool:
        """Whether a network that costs `resources` is within the budget."""
        return all(resources[metric] <= limit for metric, limit in self.budget.items())

    def _reduction(self, metric: str, iteration: int) -> float:
        original = self.original[metric]
        if self.pace.initial_reduction is not None:
            return self.pace.initial_reduction * original * self.pace.decay**iteration
        if iteration >= self.pace.iterations - 1:
            return original  # the last step goes the whole way, so that rounding cannot add another one
        return (original - self.budget[metric]) / self.pace.steps * self.pace.decay**iteration

    def _enough_iterations(self, share: float, needed: float) -> str:
        """Say how many iterations would do, unless a decaying step never gets there."""
        decay = self.pace.decay
        total, iterations = 0.0, 0
        while total < needed and iterations < 10_000:
            total += share * decay**iterations
            iterations += 1
        return f", or {counted(iterations, 'iteration')}" if total >= needed else ""
