"""Linear forms, fitting them to observations written out by hand, and the digest of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.network.plan import LinearForm, NotLinearError, Observation, Plan, fit_plan
from netadapt.network.workload import Workload


def observation(a: int, b: int) -> Observation:
    """A stem of `a` channels, a grouped convolution (2 groups) to `b`, both side by side into a linear layer."""
    workloads = (
        Workload("conv", (3,), a, (8, 8)),
        Workload("conv", (a,), a, (8, 8), (3, 3), padding=(1, 1), groups=a),
        Workload("conv", (a,), b, (8, 8), groups=2),
        Workload("concat", (a, b), a + b, (8, 8)),
        Workload("linear", (64 * (a + b),), 5, bias=True),
    )
    parameters = ((a, 3, 1, 1), (a, 1, 3, 3), (b, a // 2, 1, 1), (5, 64 * (a + b)), (5,))
    return Observation({"a": a, "b": b}, workloads, parameters, ("upsample",))


BASE = observation(8, 12)


def fitted() -> Plan:
    return fit_plan(BASE, {"a": observation(4, 12), "b": observation(8, 6)})


@given(st.integers(1, 8).map(lambda half: 2 * half), st.integers(1, 12).map(lambda half: 2 * half))
def test_fitted_plan_tells_what_was_not_observed(a: int, b: int) -> None:
    plan, seen = fitted(), observation(a, b)
    assert plan.at(seen.widths) == seen.workloads
    assert plan.params(seen.widths) == 3 * a + 9 * a + b * a // 2 + 5 * 64 * (a + b) + 5
    assert plan.macs(seen.widths) == 64 * 3 * a + 64 * 9 * a + 64 * b * a // 2 + 5 * 64 * (a + b)


def test_coefficients_by_hand() -> None:
    plan = fitted()
    assert plan.original == {"a": 8, "b": 12}
    assert plan.unknown == ("upsample",)
    assert plan.steps[4].in_channels == (LinearForm(0, (("a", 64), ("b", 64))),)
    assert plan.steps[1].conv_groups == LinearForm(0, (("a", 1),))
    assert plan.parameters[2][1] == LinearForm(0, (("a", 1),), divisor=2)
    assert [step.groups for step in plan.steps] == [("a",), ("a",), ("a", "b"), ("a", "b"), ("a", "b")]


def test_linear_form_with_divisor() -> None:
    form = LinearForm(6, (("a", 1), ("b", -2)), divisor=4)
    assert form.at({"a": 8, "b": 1}) == 3
    assert form.groups == ("a", "b")


def test_a_plan_without_groups_is_the_network_as_it_is() -> None:
    plan = fit_plan(replace(BASE, widths={}), {})
    assert plan.at({}) == BASE.workloads
    assert plan.params({}) == 3 * 8 + 9 * 8 + 12 * 4 + 5 * 64 * 20 + 5


def changed(workload: int, **fields: object) -> Observation:
    """The network with half the channels in `a`, and one workload changed further."""
    seen = observation(4, 12)
    workloads = list(seen.workloads)
    workloads[workload] = replace(workloads[workload], **fields)
    return replace(seen, workloads=tuple(workloads))


@pytest.mark.parametrize(
    "seen",
    [
        changed(0, in_size=(4, 4)),
        changed(0, stride=(2, 2)),
        changed(2, activation="relu"),
        changed(2, bias=True),
        changed(3, op="add"),
        changed(3, in_channels=(4, 6, 6)),
        changed(4, batch=2),
        replace(observation(4, 12), unknown=()),
        replace(observation(4, 12), workloads=observation(4, 12).workloads[:4]),
        replace(observation(4, 12), parameters=BASE.parameters[:4]),
        replace(observation(4, 12), parameters=(*BASE.parameters[:4], (5, 1))),
    ],
)
def test_other_changes_than_of_channel_counts_are_refused(seen: Observation) -> None:
    with pytest.raises(NotLinearError, match="narrowing it changes"):
        fit_plan(BASE, {"a": seen})


def test_the_refusal_names_the_workload() -> None:
    with pytest.raises(NotLinearError, match="conv 3->8 8x8 k1x1 s1 becomes conv 3->4 4x4 k1x1 s1"):
        fit_plan(BASE, {"a": changed(0, in_size=(4, 4))})


def test_digest_is_stable() -> None:
    assert fitted().digest == fitted().digest
    # Corrections in users' tables are keyed by it.
    assert fitted().digest == "8d60bad690b38622"


def test_digest_follows_what_the_costs_follow() -> None:
    plan = fitted()
    first = replace(plan.steps[0], template=replace(plan.steps[0].template, stride=(2, 2)))
    others = [
        replace(plan, original={"a": 8, "b": 10}),
        replace(plan, steps=plan.steps[:-1]),
        replace(plan, steps=(first, *plan.steps[1:])),
        replace(plan, steps=plan.steps[::-1]),
        replace(plan, unknown=()),
    ]
    assert len({plan.digest, *(other.digest for other in others)}) == 6


def test_digest_does_not_depend_on_the_order_of_the_widths() -> None:
    plan = fitted()
    assert replace(plan, original={"b": 12, "a": 8}).digest == plan.digest
