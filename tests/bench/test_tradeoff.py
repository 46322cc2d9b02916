"""How much faster one family of networks is than another at equal accuracy, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tradeoff import Point, latency_at, mean_interval, speedups_at_equal_accuracy
from netadapt.results.pareto import pareto_front

CURVE = [Point(100, 0.80), Point(200, 0.90), Point(300, 0.85), Point(400, 0.92)]


def test_front_leaves_out_what_is_slower_and_less_accurate() -> None:
    assert pareto_front(CURVE) == [CURVE[0], CURVE[1], CURVE[3]]


def test_of_two_as_fast_only_the_more_accurate_is_of_the_front() -> None:
    assert pareto_front([Point(100, 0.7), Point(100, 0.8)]) == [Point(100, 0.8)]


@pytest.mark.parametrize(
    ("accuracy", "latency_ns"),
    [(0.80, 100), (0.85, 150), (0.90, 200), (0.91, 300), (0.92, 400), (0.99, 400)],
)
def test_latency_at_an_accuracy(accuracy: float, latency_ns: float) -> None:
    assert latency_at(CURVE, accuracy) == pytest.approx(latency_ns)


def test_where_they_have_no_network_that_bad_their_fastest_counts() -> None:
    # To leave such points out would leave out those where we do worst.
    assert latency_at(CURVE, 0.70) == 100
    ours = [Point(50, 0.70), Point(75, 0.85), Point(160, 0.91), Point(200, 0.50)]
    assert speedups_at_equal_accuracy(ours, CURVE) == pytest.approx([100 / 50, 150 / 75, 300 / 160, 100 / 200])


def test_interval_of_three_seeds() -> None:
    # Mean 2, standard deviation 1, Student's t for two degrees of freedom 4.303.
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.high == pytest.approx(2 + 4.303 / math.sqrt(3))
    assert interval.low == pytest.approx(2 - 4.303 / math.sqrt(3))


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([1.5]) == type(mean_interval([1.5]))(1.5, None, None)


@given(st.lists(st.builds(Point, st.floats(1, 1e6), st.floats(0.01, 1)), min_size=1, max_size=12), st.floats(0.01, 1))
def test_more_accuracy_never_takes_less_time(points: list[Point], accuracy: float) -> None:
    fastest = latency_at(points, accuracy)
    assert fastest <= latency_at(points, min(1.0, accuracy + 0.05)) * (1 + 1e-9)
    assert fastest >= min(point.latency_ns for point in points) * (1 - 1e-9)
