"""Which workloads are measured ahead, by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.lut.ahead import spread, workloads_ahead
from netadapt.network.plan import Observation, Plan, fit_plan
from netadapt.network.workload import EMPTY_RUN, Workload


@pytest.mark.parametrize(
    ("choices", "points", "expected"),
    [
        ([8, 16, 24, 32, 40], 2, [8, 40]),
        ([8, 16, 24, 32, 40], 3, [8, 24, 40]),
        ([8, 16, 24, 32, 40], 1, [40]),
        ([8, 16, 24, 32, 40], 5, [8, 16, 24, 32, 40]),
        ([8, 16, 24, 32, 40], 9, [8, 16, 24, 32, 40]),
        ([1, 2, 3, 4, 5, 6, 7], 4, [1, 3, 5, 7]),
        ([8], 4, [8]),
    ],
)
def test_spread_by_hand(choices: list[int], points: int, expected: list[int]) -> None:
    assert spread(choices, points) == expected


@given(st.lists(st.integers(1, 500), min_size=1, unique=True).map(sorted), st.integers(2, 20))
def test_spread_keeps_the_ends_and_repeats_nothing(choices: list[int], points: int) -> None:
    chosen = spread(choices, points)
    assert len(chosen) == min(points, len(choices))
    assert chosen == sorted(set(chosen) & set(choices))
    assert {chosen[0], chosen[-1]} == {choices[0], choices[-1]}


def observation(**widths: int) -> Observation:
    """Two convolutions in a row, a pool, and a concat of all three widths."""
    a, b, c = widths["a"], widths["b"], widths["c"]
    workloads = (
        Workload("conv", (3,), a, (8, 8)),
        Workload("conv", (a,), b, (8, 8)),
        Workload("concat", (a, b, c), a + b + c, (8, 8)),
        Workload("max_pool", (3,), 3, (8, 8), (2, 2), (2, 2)),
    )
    return Observation(widths, workloads, ())


def plan() -> Plan:
    base = {"a": 8, "b": 12, "c": 4}
    return fit_plan(observation(**base), {group: observation(**{**base, group: 2}) for group in base})


ALLOWED = {"a": (2, 4, 6, 8), "b": (4, 8, 12), "c": (2, 4)}


def test_every_workload_of_the_grid_is_there() -> None:
    found = workloads_ahead(plan(), ALLOWED, points=10)
    first = {Workload("conv", (3,), a, (8, 8)) for a in ALLOWED["a"]}
    second = {Workload("conv", (a,), b, (8, 8)) for a, b in itertools.product(ALLOWED["a"], ALLOWED["b"])}
    assert first | second | {Workload("max_pool", (3,), 3, (8, 8), (2, 2), (2, 2)), EMPTY_RUN} <= set(found)
    assert len(found) == len(set(found))


def test_fewer_points_are_a_coarser_grid() -> None:
    found = set(workloads_ahead(plan(), ALLOWED, points=2))
    pairs = {(workload.in_channels[0], workload.out_channels) for workload in found if workload.op == "conv"}
    assert pairs == {(3, 2), (3, 8), (2, 4), (2, 12), (8, 4), (8, 12)}


def test_a_concat_of_many_groups_is_varied_in_one_at_a_time() -> None:
    found = {
        workload.in_channels for workload in workloads_ahead(plan(), ALLOWED, points=10) if workload.op == "concat"
    }
    assert found == {(2, 12, 4), (4, 12, 4), (6, 12, 4), (8, 12, 4), (8, 4, 4), (8, 8, 4), (8, 12, 2)}


def test_a_network_without_groups() -> None:
    fixed = fit_plan(Observation({}, observation(a=8, b=12, c=4).workloads, ()), {})
    assert workloads_ahead(fixed, {}, points=3) == [EMPTY_RUN, *fixed.at({})]
