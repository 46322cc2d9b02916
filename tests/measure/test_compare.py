"""Comparisons on devices whose costs are given, so that the verdict is known."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import matmul, relu

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.compare import Pairing, compare, compare_models, paired_ratio, ratio_of_rounds, verdict
from netadapt.measure.device import Device, open_device
from netadapt.measure.lock import MeasuringLock
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import Block


class FakeDevice(Device):
    """Models are functions from the number of a block to its cost, or None for a disturbed one."""

    def __init__(self, tier="local", lock=None):
        super().__init__(load_platform("ort-local").model_copy(update={"tier": tier}), lock=lock)
        self.order = []

    def costs(self, model):
        raise NotImplementedError

    def workload_costs(self, workload):
        raise NotImplementedError

    @contextmanager
    def load(self, model):
        device, numbers = self, count()

        class Source:
            def warm_up(self):
                pass

            def block(self):
                device.order.append(model)
                cost = model(next(numbers))
                return Block(100.0, clean=False) if cost is None else Block(cost)

        yield Source()


def steady(cost):
    return lambda block: cost


def noisy(cost, seed, scale=0.02):
    generator = np.random.default_rng(seed)
    return lambda block: cost * (1 + generator.exponential(scale))


def test_twice_as_fast():
    comparison = compare(FakeDevice(), steady(200.0), steady(100.0))
    assert (comparison.ratio, comparison.low, comparison.high) == (0.5, 0.5, 0.5)
    assert comparison.verdict == "FASTER"
    assert comparison.speedup == (2.0, 2.0, 2.0)
    assert (comparison.a_ns, comparison.b_ns) == (200, 100)
    # Four rounds of fifteen pairs.
    assert (comparison.pairs, comparison.clean_fraction) == (60, 1)


def test_slower_same_and_ambiguous():
    assert compare(FakeDevice(), noisy(100, 1), noisy(120, 2)).verdict == "SLOWER"
    assert compare(FakeDevice(), noisy(100, 1), noisy(100, 2)).verdict == "SAME"
    # One percent slower is within the margin of two.
    assert compare(FakeDevice(), steady(100.0), steady(101.0)).verdict == "SAME"
    wild = lambda block: 50.0 + block * 37 % 100  # noqa: E731
    assert compare(FakeDevice(), steady(100.0), wild).verdict == "AMBIGUOUS"


def test_a_against_a_is_hardly_ever_told_apart():
    verdicts = [compare(FakeDevice(), noisy(100, seed), noisy(100, seed + 1000)).verdict for seed in range(100)]
    assert set(verdicts) <= {"SAME", "AMBIGUOUS"}
    assert verdicts.count("SAME") >= 95


def test_each_of_the_two_goes_first_in_turn():
    device, a, b = FakeDevice(), steady(1.0), steady(1.0)
    compare(device, a, b, Pairing(rounds=1, pairs=6))
    # Of two blocks in a row the first only drives the other model out of the cache.
    assert device.order == [a, a, b, b, b, b, a, a] * 3


def test_a_disturbance_of_both_does_not_matter():
    # From the 10th block on the machine runs at half its speed.
    slow = lambda cost: lambda block: cost * (1 if block < 9 else 2)  # noqa: E731
    assert compare(FakeDevice(), slow(100.0), slow(110.0)).ratio == pytest.approx(1.1)


def test_rounds_are_added_until_the_ratio_is_known():
    quiet, loud = FakeDevice(), FakeDevice()
    assert compare(quiet, steady(100.0), steady(120.0), Pairing(rounds=2)).pairs == 30
    assert compare(loud, noisy(100, 1, 0.5), noisy(100, 2, 0.5), Pairing(rounds=2, most_rounds=5)).pairs == 75


def test_disturbed_pairs_are_left_out():
    sometimes = lambda block: None if block % 3 == 0 else 50.0  # noqa: E731
    comparison = compare(FakeDevice(), steady(100.0), sometimes, Pairing(rounds=1))
    assert comparison.ratio == 0.5
    assert comparison.pairs == 15
    assert comparison.clean_fraction == pytest.approx(15 / 22)


def test_nothing_but_disturbance_is_contended_and_told_by_all_pairs():
    comparison = compare(FakeDevice(), steady(50.0), lambda block: None)
    # Disturbed blocks cost 100. No rounds beyond the fewest, no pairs beyond those wanted.
    assert (comparison.ratio, comparison.status, comparison.pairs, comparison.clean_fraction) == (2, "contended", 60, 0)


def test_a_quiet_comparison_is_not_contended():
    assert compare(FakeDevice(), steady(1.0), steady(2.0)).status == "converged"


def test_the_interval_is_wider_on_a_busy_machine():
    # Of the blocks that count, every fourth is disturbed: at twice the cost, two fifths of the time.
    sometimes = lambda block: None if block % 8 == 1 else 50.0  # noqa: E731
    comparison = compare(FakeDevice(), steady(50.0), sometimes, Pairing(rounds=1))
    assert comparison.status == "converged"
    assert comparison.ratio == 1
    assert (comparison.low, comparison.high) == (pytest.approx(1 / 1.02), pytest.approx(1.02))


def test_rounds_are_not_added_on_a_busy_machine():
    generator, device = np.random.default_rng(0), FakeDevice()
    # Every second block only settles; of the others three in four are disturbed, and they vary widely.
    sometimes = lambda block: 50.0 * generator.exponential() if block % 8 <= 1 else None  # noqa: E731
    comparison = compare(device, steady(100.0), sometimes, Pairing(rounds=2, pairs=10))
    assert comparison.status == "contended"
    assert len(device.order) == 2 * 10 * 4


def test_the_interval_allows_for_how_rounds_differ():
    # Three rounds whose pairs agree wholly, at ratios of 0.49, 0.50 and 0.51: it is not known within a hundredth.
    rounds = [[(100.0, 49.0)] * 15, [(100.0, 50.0)] * 15, [(100.0, 51.0)] * 15]
    ratio, low, high = ratio_of_rounds(rounds, 0.95)
    assert ratio == 0.5
    # Student's t of two degrees of freedom, 4.303, times a standard error of 0.02 / sqrt(3).
    assert high == pytest.approx(0.5 * np.exp(4.303 * 0.02 / 3**0.5), rel=1e-3)
    assert low == pytest.approx(0.5 / np.exp(4.303 * 0.02 / 3**0.5), rel=1e-3)
    # One round says nothing about others, and empty ones nothing at all.
    assert ratio_of_rounds([rounds[0], []], 0.95) == (0.49, 0.49, 0.49)


def test_too_few_pairs_for_an_interval():
    with pytest.raises(MeasurementError, match=r"5 pairs of blocks are too few"):
        compare(FakeDevice(), steady(1.0), steady(1.0), Pairing(rounds=1, most_rounds=1, pairs=5))


def test_tiers_are_never_compared():
    with pytest.raises(MeasurementError, match="different tiers"):
        compare_models(FakeDevice("local"), steady(1.0), FakeDevice("simulated"), steady(1.0))


def test_two_devices_that_share_a_lock(tmp_path):
    path = tmp_path / "lock"
    devices = [FakeDevice(lock=MeasuringLock(path, lambda text: pytest.fail("waits for itself"))) for _ in range(2)]
    assert compare_models(devices[0], steady(1.0), devices[1], steady(2.0)).verdict == "SLOWER"


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=60), st.floats(0.5, 2))
def test_ratio_of_proportional_pairs(costs, factor):
    ratio, low, high = paired_ratio([(cost, cost * factor) for cost in costs], 0.95)
    assert low <= ratio <= high
    assert ratio == pytest.approx(factor)


@given(st.floats(0.5, 2), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_verdict_needs_the_whole_interval_on_one_side(ratio, below, above):
    judged = verdict(ratio, ratio - below, ratio + above, 0.02)
    if judged == "FASTER":
        assert ratio + above < 1
    if judged == "SLOWER":
        assert ratio - below > 1
    if judged == "SAME":
        assert ratio - below >= 0.98
        assert ratio + above <= 1.02


def test_real_models_of_very_different_cost():
    with open_device("ort-local") as device:
        comparison = compare(device, matmul(256), relu(), Pairing(rounds=2, pairs=8))
    assert comparison.verdict == "FASTER"
    assert comparison.ratio < 0.5
    assert comparison.tier == "local"


def test_an_invalid_second_model(tmp_path):
    with open_device("ort-local") as device, pytest.raises(ModelError, match="not a model"):
        compare(device, relu(), b"nonsense")
