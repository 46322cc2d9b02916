from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_values import SAMPLES, case, latency, run, share

from netadapt.errors import ResultsError
from netadapt.results.compare import compare_results, gate
from netadapt.results.schema import Figure, ResultFile
from netadapt.results.shift import shift


def verdict(a: Figure, b: Figure, **changes: object) -> str:
    comparison = compare_results(run(case({"figure": a}), **changes), run(case({"figure": b}), **changes))
    return comparison.cases[0].figures[0].verdict


def scaled(factor: float) -> tuple[float, ...]:
    return tuple(factor * sample for sample in SAMPLES)


def simulated(cost: float) -> Figure:
    return latency((cost,) * 3)


def one_case(a: ResultFile, b: ResultFile) -> tuple[str, ...]:
    return compare_results(a, b).cases[0].not_comparable


def test_rounds_are_judged_by_their_ratio_to_the_reference():
    # By hand: the spread of the rounds is 0.7 %, so that of the difference of two trimmed means is about 0.5 %.
    assert verdict(latency(), latency()) == "SAME"
    assert verdict(latency(), latency(scaled(1.02))) == "SAME"
    assert verdict(latency(), latency(scaled(1.10))) == "SLOWER"
    assert verdict(latency(), latency(scaled(0.90))) == "FASTER"
    # 4.9 % is within the margin, but nothing says that the truth is.
    assert verdict(latency(), latency(scaled(1.049))) == "AMBIGUOUS"


def test_what_slows_the_whole_machine_down_cancels():
    slowed = latency(scaled(3.0), reference_ns=(1.5e6,) * len(SAMPLES))
    assert verdict(latency(), slowed) == "SAME"
    figure = compare_results(run(case({"f": latency()})), run(case({"f": slowed}))).cases[0].figures[0]
    assert figure.ratio == pytest.approx(1.0)
    assert (figure.a, figure.b) == (2.01e6, pytest.approx(6.03e6))


def test_drift_within_a_run_cancels():
    drift = [1 + 0.1 * number for number in range(len(SAMPLES))]
    samples = tuple(sample * factor for sample, factor in zip(SAMPLES, drift, strict=True))
    drifting = latency(samples, reference_ns=tuple(5e5 * factor for factor in drift))
    assert verdict(latency(), drifting) == "SAME"


@pytest.mark.parametrize("spoiled", [{0: 1.8}, {6: 0.6}, {2: 1.4}])
def test_a_spoiled_round_of_seven_changes_nothing(spoiled):
    samples = tuple(sample * spoiled.get(index, 1) for index, sample in enumerate(SAMPLES))
    assert verdict(latency(), latency(samples)) == "SAME"
    assert verdict(latency(), latency(tuple(1.1 * sample for sample in samples))) == "SLOWER"


def test_rounds_that_disagree_are_ambiguous():
    spread = (1.5e6, 2.9e6, 2.0e6, 1.6e6, 2.8e6, 2.2e6, 1.8e6)
    assert verdict(latency(), latency(spread)) == "AMBIGUOUS"


def test_a_simulated_clock_is_taken_at_its_word():
    facts = {"tier": "simulated", "platform": "sim-cortex-a72"}
    assert verdict(simulated(1e6), simulated(1e6), **facts) == "SAME"
    assert verdict(simulated(1e6), simulated(1.0009e6), **facts) == "SAME"
    assert verdict(simulated(1e6), simulated(1.0011e6), **facts) == "SLOWER"
    assert verdict(simulated(1e6), simulated(0.9989e6), **facts) == "FASTER"
    assert verdict(simulated(1e6), simulated(1.0011e6)) == "SAME", "on a real clock, equal samples prove nothing"


def test_energy_has_no_reference_and_is_worse_or_better():
    def energy(cost: float) -> Figure:
        return latency((cost,) * 3, unit="pJ", reference_ns=())

    facts = {"tier": "simulated", "platform": "sim-cortex-a72"}
    assert verdict(energy(1e6), energy(1.2e6), **facts) == "WORSE"
    assert verdict(energy(1e6), energy(0.8e6), **facts) == "BETTER"


def test_times_without_a_reference_are_compared_as_they_are():
    def seconds(factor: float, tolerance: float = 0.0) -> Figure:
        return latency(scaled(factor), unit="s", reference_ns=(), tolerance=tolerance)

    assert verdict(seconds(1), seconds(1.1)) == "SLOWER"
    assert verdict(seconds(1), seconds(1.1, tolerance=0.25 * 2.01e6)) == "SAME"
    assert verdict(seconds(1), seconds(1.4, tolerance=0.25 * 2.01e6)) == "SLOWER"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (share(0.930), share(0.930), "SAME"),
        (share(0.930), share(0.925), "SAME"),
        (share(0.930), share(0.924), "WORSE"),
        (share(0.930), share(0.936), "BETTER"),
        (share(0.02, better="lower", tolerance=0.01), share(0.04, better="lower"), "WORSE"),
        (share(0.02, better="lower", tolerance=0.01), share(0.005, better="lower"), "BETTER"),
        (share(-0.02, better="lower"), share(0.02, better="lower"), "WORSE"),
        (share(0.5, better="neither"), share(0.9, better="neither"), "NOT JUDGED"),
        (share(0.93), share(0.90, status="contended"), "AMBIGUOUS"),
        (share(0.93, status="unconverged"), share(0.90), "AMBIGUOUS"),
        (share(1.7, low=1.5, high=1.9), share(1.6, low=1.55, high=1.65), "AMBIGUOUS"),
        (share(1.7, low=1.68, high=1.72), share(1.6, low=1.55, high=1.65), "WORSE"),
        (share(0.0, tolerance=0.0), share(0.0, tolerance=0.0), "SAME"),
        (share(0.0, tolerance=0.0), share(1e-9, tolerance=0.0), "BETTER"),
    ],
)
def test_figures_without_samples_are_judged_by_tolerance_and_interval(a, b, expected):
    assert verdict(a, b) == expected


def test_a_number_of_a_real_clock_that_says_nothing_of_its_spread_is_not_judged():
    def once(cost: float) -> Figure:
        return latency((cost,), low=None, high=None)

    assert verdict(once(1e6), once(1.5e6)) == "AMBIGUOUS"
    assert verdict(once(1e6), once(1.5e6), tier="simulated", platform="sim-cortex-a72") == "SLOWER"
    assert (
        verdict(share(0.02, origin="derived", tolerance=0.0), share(0.05, origin="derived", tolerance=0.0))
        == "AMBIGUOUS"
    )


def test_accuracies_over_seeds_are_judged_by_their_difference():
    def accuracy(*seeds: float) -> Figure:
        return share(sorted(seeds)[len(seeds) // 2], samples=seeds)

    assert verdict(accuracy(0.930, 0.931, 0.932), accuracy(0.930, 0.931, 0.932)) == "SAME"
    # Four points are less than 5 %, but not less than half a point.
    assert verdict(accuracy(0.930, 0.931, 0.932), accuracy(0.890, 0.891, 0.892)) == "WORSE"
    assert verdict(accuracy(0.930, 0.931, 0.932), accuracy(0.88, 0.93, 0.95)) == "AMBIGUOUS"


def test_a_figure_that_changed_its_meaning_is_ambiguous():
    assert verdict(latency(), latency(unit="s")) == "AMBIGUOUS"
    assert verdict(share(0.9), share(0.9, better="lower")) == "AMBIGUOUS"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": "f2"}, "fingerprint f1 in A, f2 in B"),
        ({"clock": "host"}, "clock platform in A, host in B"),
        ({"profile": "full"}, "profile quick in A, full in B"),
        ({"protocol_version": 3}, "protocol version 2 in A, 3 in B"),
    ],
)
def test_runs_that_differ_in_more_than_the_code_are_not_comparable(changes, reason):
    assert one_case(run(), run(**changes)) == (reason,)


@pytest.mark.parametrize(
    ("changes", "reason"), [({"version": 2}, "version 1 in A, 2 in B"), ({"digest": "d2"}, "digest d1 in A, d2 in B")]
)
def test_cases_that_changed_are_not_comparable(changes, reason):
    assert one_case(run(), run(case(**changes))) == (reason,)


def test_every_reason_is_told():
    assert one_case(run(), run(case(version=2, digest="d2"), fingerprint="f2", profile="full")) == (
        "fingerprint f1 in A, f2 in B",
        "profile quick in A, full in B",
        "version 1 in A, 2 in B",
        "digest d1 in A, d2 in B",
    )


def test_the_name_of_a_platform_may_change_with_its_fingerprint_kept():
    assert one_case(run(), run(platform="my-laptop")) == ()


def test_tiers_are_never_mixed():
    with pytest.raises(ResultsError, match=r"A \(ort-local\) is of tier local, B \(sim-cortex-a72\) of tier simulated"):
        compare_results(run(), run(tier="simulated", platform="sim-cortex-a72"))


def test_cases_and_figures_of_one_side_are_told():
    a = run(case({"latency": latency(), "old": latency()}), case(id="search_cost"))
    b = run(case({"latency": latency(), "new": latency()}), case(id="determinism"))
    first, *others = compare_results(a, b).cases
    assert (first.only_a, first.only_b) == (("old",), ("new",))
    assert [figure.name for figure in first.figures] == ["latency"]
    assert {other.id: other.not_comparable for other in others} == {
        "search_cost": ("only A has it",),
        "determinism": ("only B has it",),
    }


def test_a_gate_is_shut_by_a_regression_only():
    fine, slow = run(), run(case({"latency": latency(scaled(1.2))}))
    assert gate(fine, slow).passed
    assert gate(fine, fine).reasons == ()
    shut = gate(slow, fine)
    assert not shut.passed
    assert shut.reasons == ("lut_accuracy, latency: SLOWER (7 and 7 rounds, each divided by its reference)",)


@pytest.mark.parametrize("strict", [False, True])
def test_a_gate_without_a_baseline_says_so(strict):
    outcome = gate(run(), None, strict)
    assert outcome.passed is not strict
    assert outcome.comparison is None
    assert "no baseline for ort-local (clock platform, profile quick)" in outcome.reasons[0]


@pytest.mark.parametrize("strict", [False, True])
def test_a_gate_that_cannot_compare_says_so(strict):
    outcome = gate(run(case(digest="d2")), run(), strict)
    assert outcome.passed is not strict
    assert outcome.reasons == ("lut_accuracy: NOT COMPARABLE (digest d1 in A, d2 in B)",)


@pytest.mark.parametrize("strict", [False, True])
def test_a_gate_tells_figures_that_were_lost(strict):
    outcome = gate(run(case({})), run(case({"latency": latency()})), strict)
    assert outcome.passed is not strict
    assert outcome.reasons == ("lut_accuracy, latency: NOT COMPARABLE (only A has it)",)


def test_trimmed_means_by_hand():
    # One of four rounds at either end is cut: what is kept is 2, 3 and 12, 13; winsorised 2, 2, 3, 3, so that the sum
    # of squares is 1 and the variance of the mean 1 / (2 * 1). Welch gives 2 degrees of freedom, t is 4.303.
    moved = shift([1, 2, 3, 100], [13, 12, -50, 200])
    assert moved is not None
    assert moved.value == 10
    assert moved.high - moved.value == pytest.approx(4.303)
    assert moved.value - moved.low == pytest.approx(4.303)


def test_fewer_than_two_rounds_have_no_interval():
    assert shift([1.0], [1.0, 2.0, 3.0]) is None
    assert shift([], []) is None


def test_rounds_that_are_all_equal_differ_by_exactly_that():
    moved = shift([1.0, 1.0, 1.0], [3.0, 3.0])
    assert moved is not None
    assert (moved.value, moved.low, moved.high) == (2, 2, 2)


ROUNDS = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


@given(ROUNDS, ROUNDS, st.floats(-5, 5))
def test_a_shift_follows_what_is_added_and_turns_with_the_sides(a, b, added):
    plain, moved, turned = shift(a, b), shift(a, [value + added for value in b]), shift(b, a)
    assert plain is not None
    assert moved is not None
    assert turned is not None
    assert plain.low <= plain.value <= plain.high
    assert moved.value == pytest.approx(plain.value + added, abs=1e-9)
    assert turned.value == pytest.approx(-plain.value, abs=1e-12)
    assert turned.low == pytest.approx(-plain.high, abs=1e-9)
    assert math.isfinite(moved.high)
