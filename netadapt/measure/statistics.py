"""Order statistics of timings: numbers in, numbers out.

Timings are skewed to one side (nothing makes a run faster than the hardware allows), so nothing here assumes a
normal distribution: quantiles, and confidence intervals that hold for any continuous distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache


def quantile(values: Sequence[float], q: float) -> float:
    """Quantile by linear interpolation between order statistics (numpy's default). `values` must not be empty."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median(values: Sequence[float]) -> float:
    """Tell the middle of the values."""
    return quantile(values, 0.5)


def median_absolute_deviation(values: Sequence[float]) -> float:
    """Median distance from the median: a spread that single outliers cannot move."""
    centre = median(values)
    return median([abs(value - centre) for value in values])


def quantile_interval(values: Sequence[float], q: float, confidence: float) -> tuple[float, float] | None:
    """Distribution-free confidence interval of a quantile, or None where there are too few values for one.

    The number of values below the true quantile is binomial, so two order statistics enclose it with a known
    probability (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    ranks = interval_ranks(len(values), q, confidence)
    if ranks is None:
        return None
    ordered = sorted(values)
    return ordered[ranks[0] - 1], ordered[ranks[1] - 1]


@lru_cache(maxsize=4096)
def interval_ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """Ranks (1 is the smallest value) of the two order statistics that enclose quantile `q`.

    Each side is missed with a probability of at most `(1 - confidence) / 2`. None when `n` is too small for that.
    """
    tail = (1 - confidence) / 2
    below = 0.0
    low = high = 0
    for count in range(n + 1):
        # Here `below` is P(fewer than `count` values lie below the quantile).
        if below <= tail:
            low = count
        below += _binomial(n, count, q)
        if not high and below >= 1 - tail:
            high = count + 1
    return (low, high) if low >= 1 and 1 <= high <= n else None


def smallest_sample(q: float, confidence: float) -> int:
    """Fewest values for which `quantile_interval` gives an interval."""
    n = 1
    while interval_ranks(n, q, confidence) is None:
        n += 1
    return n


def _binomial(n: int, k: int, p: float) -> float:
    log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p))
