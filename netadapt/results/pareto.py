"""Which networks are worth choosing from: those that no other one beats in both latency and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Tradeoff(Protocol):
    """A network; accuracy as a share of 1."""

    @property
    def latency_ns(self) -> float:
        """Its latency."""

    @property
    def accuracy(self) -> float:
        """Its accuracy."""


T = TypeVar("T", bound=Tradeoff)


def pareto_front(points: Sequence[T]) -> list[T]:
    """The points that no other one beats in both, from the fastest to the most accurate."""
    front: list[T] = []
    for point in sorted(points, key=lambda point: (point.latency_ns, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
