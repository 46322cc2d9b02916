"""Accuracy against latency: how much faster one family of networks is than another at equal accuracy."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from netadapt.measure.statistics import student_t
from netadapt.results.pareto import pareto_front


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
    half = student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
