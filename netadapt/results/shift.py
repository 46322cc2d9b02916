"""By how much one series of rounds lies above another, though some rounds are spoiled: numbers in, numbers out.

Contention spoils single rounds, of the case or of its reference, so the ends of both series are not trusted: trimmed
means, with the interval of Yuen (1974), which is Welch's with winsorised variances (Wilcox, Introduction to Robust
Estimation and Hypothesis Testing, section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netadapt.measure import statistics

#: Share of the rounds that is not trusted at either end: two of nine.
_TRIM = 0.25


@dataclass(frozen=True, slots=True)
class Shift:
    """How far B lies above A, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Centre:
    mean: float
    #: Of the mean.
    variance: float
    freedom: int


def shift(a: Sequence[float], b: Sequence[float]) -> Shift | None:
    """How far the rounds of B lie above those of A; None with fewer than two of either, which have no spread."""
    if min(len(a), len(b)) < 2:
        return None
    centre_a, centre_b = _centre(a), _centre(b)
    value, variance = centre_b.mean - centre_a.mean, centre_a.variance + centre_b.variance
    half = statistics.student_t(_freedom(centre_a, centre_b)) * math.sqrt(variance) if variance else 0.0
    return Shift(value, value - half, value + half)


def _centre(rounds: Sequence[float]) -> _Centre:
    ordered, cut = sorted(rounds), int(_TRIM * len(rounds))
    kept = ordered[cut : len(ordered) - cut]
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    middle = math.fsum(winsorised) / len(winsorised)
    squares = math.fsum((value - middle) ** 2 for value in winsorised)
    return _Centre(math.fsum(kept) / len(kept), squares / (len(kept) * (len(kept) - 1)), len(kept) - 1)


def _freedom(a: _Centre, b: _Centre) -> float:
    """Degrees of freedom, after Welch."""
    of_a = a.variance / (a.variance + b.variance)
    return 1 / (of_a**2 / a.freedom + (1 - of_a) ** 2 / b.freedom)
