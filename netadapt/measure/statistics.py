"""Order statistics of timings: numbers in, numbers out.

Timings are skewed to one side (nothing makes a run faster than the hardware allows), so what judges them assumes no
normal distribution: quantiles, and confidence intervals that hold for any continuous distribution. Student's t is for
means of independent repetitions: of seeds, of rounds that are trimmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

#: 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond the table the last one is a little wide.
_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def student_t(freedom: float) -> float:
    """Half width of a two-sided 95 % interval in standard errors, of `freedom` degrees of freedom (1 at least)."""
    # Rounded down: rather too wide than too narrow.
    return _T_975[min(int(freedom), len(_T_975)) - 1]


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
