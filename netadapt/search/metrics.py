"""What a search can limit: metrics as functions of the widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from netadapt.lut.estimator import Estimator
from netadapt.network.plan import Widths


class Metric(Protocol):
    """One kind of cost. Add a metric by giving the search another object of this shape."""

    @property
    def name(self) -> str:
        """Its name in budgets."""

    def predict(self, widths: Widths) -> float:
        """The cost of a network of these widths in the metric's base unit."""

    def prepare(self, candidates: Sequence[Widths]) -> None:
        """Announce networks that will be asked for, so that what they need is measured in one go."""


@dataclass(frozen=True)
class Counted:
    """A metric that follows from the network alone: macs, params."""

    name: str
    count: Callable[[Widths], int]

    def predict(self, widths: Widths) -> float:
        """Count it."""
        return self.count(widths)

    def prepare(self, candidates: Sequence[Widths]) -> None:
        """Nothing has to be measured."""


@dataclass(frozen=True)
class Estimated:
    """A metric out of the look-up table: latency in ns, energy in pJ."""

    name: str
    estimator: Estimator

    def predict(self, widths: Widths) -> float:
        """Look it up; what the table lacks is measured."""
        return self.estimator(widths)

    def prepare(self, candidates: Sequence[Widths]) -> None:
        """Measure what the table lacks for all of them."""
        self.estimator.ensure(candidates)
