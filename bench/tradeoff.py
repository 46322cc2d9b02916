"""Accuracy against latency: how much faster one family of networks is than another at equal accuracy."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True, slots=True)
class Point:
    """A network; accuracy as a share of 1."""

    latency_ns: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % confidence interval; without one where there is but one value."""

    mean: float
    low: float | None
    high: float | None


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both, from the fastest to the most accurate."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency_ns, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def latency_at(points: Sequence[Point], accuracy: float) -> float:
    """Latency in ns of the fastest network of at least `accuracy`, on straight lines between the points of the front.

    Above the most accurate it is that one's latency: to be more accurate, it would have to be slower still. Below the
    least accurate it is the fastest one's: a network of less accuracy could be faster, but there is none.
    """
    front = pareto_front(points)
    if accuracy <= front[0].accuracy:
        return front[0].latency_ns
    for below, above in itertools.pairwise(front):
        if accuracy <= above.accuracy:
            share = (accuracy - below.accuracy) / (above.accuracy - below.accuracy)
            return below.latency_ns + share * (above.latency_ns - below.latency_ns)
    return front[-1].latency_ns


def speedups_at_equal_accuracy(ours: Sequence[Point], theirs: Sequence[Point]) -> list[float]:
    """How many times as fast each of our points is as their network of the same accuracy, or of more."""
    return [latency_at(theirs, point.accuracy) / point.latency_ns for point in ours]


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values (seeds), with Student's interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    freedom = min(len(values) - 1, len(_STUDENT_T))
    half = _STUDENT_T[freedom - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
