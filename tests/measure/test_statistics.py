from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.measure import statistics

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def test_quantiles_by_hand():
    assert statistics.quantile([4, 1, 3, 2, 5], 0.25) == 2
    assert statistics.quantile([1, 2], 0.25) == 1.25
    assert statistics.median([3, 1, 2]) == 2
    assert statistics.quantile([7], 0.25) == 7


def test_median_absolute_deviation_ignores_an_outlier():
    assert statistics.median_absolute_deviation([1, 2, 3, 4, 1000]) == 1


@given(VALUES, st.floats(0, 1))
def test_quantile_agrees_with_numpy(values, q):
    assert statistics.quantile(values, q) == pytest.approx(np.quantile(values, q), abs=1e-6)


def test_ranks_of_the_median_as_tabulated():
    # Conover, table A3: for n = 10 the ranks 2 and 9 enclose the median with 97.9 %, for n = 20 the ranks 6 and 15.
    assert statistics.interval_ranks(10, 0.5, 0.95) == (2, 9)
    assert statistics.interval_ranks(20, 0.5, 0.95) == (6, 15)


def test_too_few_values_give_no_interval():
    # 0.75 ** 18 = 0.0056 is more than the 0.005 that a 99 % interval may miss on one side; 0.75 ** 19 = 0.0042 is not.
    assert statistics.quantile_interval(range(18), 0.25, 0.99) is None
    assert statistics.quantile_interval(range(19), 0.25, 0.99) is not None
    assert statistics.smallest_sample(0.25, 0.99) == 19
    assert statistics.quantile_interval([], 0.25, 0.99) is None


@given(st.integers(1, 200), st.sampled_from([0.25, 0.5]), st.sampled_from([0.9, 0.95, 0.99]))
def test_ranks_miss_with_at_most_the_allowed_probability(n, q, confidence):
    ranks = statistics.interval_ranks(n, q, confidence)
    if ranks is None:
        return
    terms = [math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
    # The quantile lies below the k-th value when fewer than k values lie below the quantile.
    assert sum(terms[: ranks[0]]) <= (1 - confidence) / 2 + 1e-9
    assert sum(terms[ranks[1] :]) <= (1 - confidence) / 2 + 1e-9
    assert 1 <= ranks[0] <= ranks[1] <= n


def test_interval_covers_the_true_quartile_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = statistics.quantile_interval(list(generator.exponential(1, 40)), 0.25, 0.99)
        hits += low <= -math.log(0.75) <= high
    assert hits >= 980
