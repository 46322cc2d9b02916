"""The estimator against the plain sum over the plan, with made-up costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netadapt.lut import estimator as estimator_module
from netadapt.lut.estimator import Correction, Estimator
from netadapt.network.network import analyse
from netadapt.network.plan import Observation, Plan, fit_plan
from netadapt.network.workload import EMPTY_RUN, Workload

EMPTY = 1000
Widths = dict[str, int]
RUNS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Network(nn.Module):
    """Everything a plan can have: grouped and depthwise convolutions, addition, a concat of three, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.back = nn.Conv2d(8, 8, 1)
        self.one = nn.Conv2d(8, 6, 1)
        self.two = nn.Conv2d(8, 4, 1)
        self.three = nn.Conv2d(8, 6, 1, groups=2)
        self.last = nn.Conv2d(16, 6, 1)
        self.head = nn.Linear(4 * 6, 5)

    def forward(self, images: Tensor) -> Tensor:
        stem = torch.relu(self.stem(images))
        added = stem + self.back(self.deep(stem))
        joined = torch.cat([self.one(added), self.two(added), self.three(added)], 1)
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(self.last(joined), 2), 1))


@pytest.fixture(scope="module")
def plan() -> Plan:
    network = analyse("network", Network(), torch.randn(1, 3, 4, 4))
    assert set(network.groups) == set(ALLOWED)
    return network.plan


ALLOWED = {"stem": (4, 6, 8), "one": (1, 2, 3, 4, 5, 6), "two": (1, 3, 4), "three": (4, 6), "last": (2, 3, 6)}
WIDTHS = st.fixed_dictionaries({group: st.sampled_from(choices) for group, choices in ALLOWED.items()})


def cost(workload: Workload) -> int:
    """A cost that differs between almost any two workloads."""
    return EMPTY if workload == EMPTY_RUN else EMPTY + int(workload.digest[:5], 16)


class Costs:
    """Tells `cost`, and keeps the batches it was asked for."""

    def __init__(self, cost: object = cost) -> None:
        self.batches: list[tuple[Workload, ...]] = []
        self.cost = cost

    def __call__(self, workloads: Sequence[Workload]) -> Mapping[Workload, int]:
        self.batches.append(tuple(workloads))
        return {workload: self.cost(workload) for workload in workloads}

    @property
    def asked(self) -> Counter[Workload]:
        return Counter(workload for batch in self.batches for workload in batch if workload != EMPTY_RUN)


def naive(plan: Plan, widths: Widths) -> float:
    return EMPTY + sum(cost(workload) - EMPTY for workload in plan.at(widths))


def vectors(plan: Plan, candidates: Sequence[Widths]) -> np.ndarray:
    return np.array([[widths[group] for group in plan.original] for widths in candidates])


@given(candidates=st.lists(WIDTHS, min_size=1, max_size=6))
@RUNS
def test_one_many_and_the_plain_sum_agree(plan: Plan, candidates: list[Widths]) -> None:
    expected = [naive(plan, widths) for widths in candidates]
    assert [Estimator(plan, ALLOWED, Costs())(widths) for widths in candidates] == expected
    together = Estimator(plan, ALLOWED, Costs())
    assert together.many(vectors(plan, candidates)).tolist() == expected
    assert [together(widths) for widths in candidates] == expected


@pytest.mark.parametrize("most_cells", [0, 1, 10, 40])
@given(candidates=st.lists(WIDTHS, min_size=1, max_size=4))
@RUNS
def test_workloads_looked_up_one_by_one_give_the_same(plan: Plan, most_cells: int, candidates: list[Widths]) -> None:
    costs = Costs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimator_module, "_MOST_CELLS", most_cells)
        estimator = Estimator(plan, ALLOWED, costs)
    assert estimator.many(vectors(plan, candidates)).tolist() == [naive(plan, widths) for widths in candidates]
    assert [estimator(widths) for widths in candidates] == [naive(plan, widths) for widths in candidates]
    assert max(costs.asked.values()) == 1


@given(batches=st.lists(st.lists(WIDTHS, max_size=4), min_size=1, max_size=4))
@RUNS
def test_each_workload_is_asked_for_once_and_each_call_is_one_batch(plan: Plan, batches: list[list[Widths]]) -> None:
    costs = Costs()
    estimator = Estimator(plan, ALLOWED, costs)
    for batch in batches:
        before = len(costs.batches)
        estimator.ensure(batch)
        assert len(costs.batches) <= before + 1
        for widths in batch:
            estimator(widths)
        assert len(costs.batches) <= before + 1
    needed = {workload for batch in batches for widths in batch for workload in plan.at(widths)}
    assert costs.asked == Counter(needed)


def test_a_filled_estimator_asks_for_nothing(plan: Plan) -> None:
    costs = Costs()
    estimator = Estimator(plan, ALLOWED, costs)
    estimator(plan.original)
    asked = len(costs.batches)
    estimator(plan.original)
    estimator.many(vectors(plan, [plan.original] * 3))
    estimator.ensure([plan.original])
    assert asked == len(costs.batches) == 1


def test_what_a_run_of_nothing_costs_is_in_the_prediction_once(plan: Plan) -> None:
    estimator = Estimator(plan, ALLOWED, Costs(lambda workload: EMPTY if workload == EMPTY_RUN else EMPTY + 7))
    assert estimator.fixed_part == EMPTY
    assert estimator(plan.original) == EMPTY + 7 * len(plan.steps)


def test_a_layer_never_costs_less_than_nothing(plan: Plan) -> None:
    def noisy(workload: Workload) -> int:
        return {"add": EMPTY - 200, "concat": EMPTY - 1, "linear": EMPTY + 30}.get(workload.op, EMPTY)

    estimator = Estimator(plan, ALLOWED, Costs(noisy))
    assert estimator(plan.original) == EMPTY + 30
    assert min(part for _, part in estimator.layers(plan.original)) == 0


def test_the_correction_is_applied_to_the_whole(plan: Plan) -> None:
    plain = naive(plan, plan.original)
    estimator = Estimator(plan, ALLOWED, Costs(), Correction(scale=0.5, offset=300.0))
    assert estimator(plan.original) == 0.5 * plain + 300
    assert estimator.many(vectors(plan, [plan.original])).tolist() == [0.5 * plain + 300]
    estimator.correction = Correction()
    assert estimator(plan.original) == plain


@given(widths=WIDTHS)
@RUNS
def test_layers_are_the_uncorrected_prediction_without_the_fixed_part(plan: Plan, widths: Widths) -> None:
    estimator = Estimator(plan, ALLOWED, Costs(), Correction(scale=2.0, offset=5.0))
    layers = estimator.layers(widths)
    assert tuple(workload for workload, _ in layers) == plan.at(widths)
    assert sum(part for _, part in layers) == Estimator(plan, ALLOWED, Costs())(widths) - estimator.fixed_part


def test_a_network_without_groups(plan: Plan) -> None:
    fixed = fit_plan(Observation({}, plan.at(plan.original), ()), {})
    estimator = Estimator(fixed, {}, Costs())
    assert estimator({}) == naive(plan, plan.original)
    assert estimator.many(np.zeros((2, 0), dtype=np.int64)).tolist() == [naive(plan, plan.original)] * 2


def test_a_network_without_workloads() -> None:
    estimator = Estimator(Plan({}, (), ()), {}, Costs())
    assert estimator({}) == EMPTY


def test_the_columns_follow_the_order_of_the_plan(plan: Plan) -> None:
    shuffled = dict(reversed(ALLOWED.items()))
    widths = {"last": 3, "three": 4, "two": 1, "one": 5, "stem": 6}
    assert Estimator(plan, shuffled, Costs())(widths) == naive(plan, widths)
