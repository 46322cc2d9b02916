"""The stop rules, driven by a clock that only the test moves."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.measure.protocol import Block, CallableSource, Instant, Timing, collect, thread_clock, time_callable

US = 1_000


def time_fake(clock, **timing):
    return time_callable(clock.run, Timing(**timing), clock)


def test_a_steady_cost_converges_with_the_fewest_blocks():
    sample = time_fake(FakeClock(lambda run: 20 * US))
    # 19 blocks give a 99 % interval of the quartile; it is looked at every 10 blocks.
    assert sample.status == "converged"
    assert sample.samples == 20
    assert (sample.first_quartile, sample.minimum, sample.median, sample.mad) == (20_000, 20_000, 20_000, 0)
    assert (sample.clean_fraction, sample.relative_half_width) == (1, 0)


def test_blocks_last_about_a_millisecond():
    clock = FakeClock(lambda run: 20 * US)
    source = CallableSource(clock.run, Timing(), clock)
    source.warm_up()
    before = clock.runs
    source.block()
    assert clock.runs - before == 50


def test_a_run_longer_than_a_block_is_a_block_of_its_own():
    clock = FakeClock(lambda run: 30_000 * US)
    source = CallableSource(clock.run, Timing(), clock)
    source.warm_up()
    before = clock.runs
    source.block()
    assert clock.runs - before == 1


def test_warm_up_lasts_until_two_quartiles_agree():
    # 1 ms a run, so one run a block. The first is the cold one; then quartiles of five: 9, 5, 3, 3 ms.
    costs = [50, *[9] * 5, *[5] * 5, *[3] * 5, *[3] * 5]
    clock = FakeClock(lambda run: costs[min(run, 20)] * 1_000 * US)
    source = CallableSource(clock.run, Timing(), clock)
    source.warm_up()
    assert clock.runs == len(costs)
    assert source.block() == Block(3_000 * US, wall_ns=3_000 * US)


def test_warm_up_gives_up_at_half_the_time_limit():
    clock = FakeClock(lambda run: (run // 5 % 2 + 1) * 1_000 * US)
    CallableSource(clock.run, Timing(time_limit_ns=100_000 * US), clock).warm_up()
    assert 50_000 * US <= clock().wall_ns <= 65_000 * US


def test_preempted_blocks_do_not_count():
    # 1 ms a run is one run a block; every fifth one is interrupted, and costs a tenth more besides.
    def interrupted(run):
        return run % 5 == 0

    clock = FakeClock(lambda run: (1_100 if interrupted(run) else 1_000) * US, preempted=interrupted, away=2_000 * US)
    sample = time_fake(clock)
    assert sample.status == "converged"
    assert (sample.minimum, sample.median, sample.mad) == (1_000 * US, 1_000 * US, 0)
    assert sample.clean_fraction == pytest.approx(4 / 5, abs=0.05)


def test_a_preempted_block_costs_the_time_that_its_thread_had():
    clock = FakeClock(lambda run: 1_000 * US, preempted=lambda run: True, away=5_000 * US)
    source = CallableSource(clock.run, Timing(), clock)
    assert source.block() == Block(1_000 * US, clean=False, wall_ns=6_000 * US)


@pytest.mark.parametrize("min_cpu_share", [0.97, 0.0])
def test_a_preempted_block_of_unknown_cpu_time_costs_what_the_wall_clock_says(min_cpu_share):
    assert Block.timed(2, 600, None, 1, min_cpu_share=min_cpu_share) == Block(300, clean=False, wall_ns=600)
    # Of several threads, that of the caller alone says nothing.
    assert Block.timed(2, 600, 10, 1, min_cpu_share=0.0).cost == 300


def test_a_measurement_ends_once_more_time_is_lost_than_spent_on_blocks_that_count():
    clock = FakeClock(lambda run: 1_000 * US, preempted=lambda run: run % 2 == 0, away=9_000 * US)
    source = CallableSource(clock.run, Timing(), clock)
    source.warm_up()
    before = clock.runs
    sample = collect(source, Timing(), lambda: clock().wall_ns)
    assert clock.runs - before == 10
    assert (sample.status, sample.samples, sample.clean_fraction) == ("contended", 5, 0.5)
    assert sample.first_quartile == 1_000 * US


def test_a_contended_measurement_reaches_down_to_its_fastest_block():
    # Interrupted blocks cost 1.0 to 1.4 ms; the first quartile is 1.1.
    clock = FakeClock(lambda run: (1_000 + run % 5 * 100) * US, preempted=lambda run: True, away=5_000 * US)
    sample = time_fake(clock)
    assert (sample.status, sample.samples, sample.clean_fraction) == ("contended", 10, 0)
    assert sample.first_quartile == 1_100 * US
    assert sample.relative_half_width == pytest.approx(1 / 11)


def test_a_thread_that_waits_for_its_core_is_contended():
    sample = time_fake(FakeClock(lambda run: 100 * US, on_core=0.9))
    assert sample.status == "contended"
    assert (sample.samples, sample.clean_fraction) == (10, 0)
    # The numbers are those of the disturbed blocks: better than none, and marked.
    assert sample.first_quartile == 100 * US


def test_cpu_time_may_be_a_little_less_than_wall_time():
    assert time_fake(FakeClock(lambda run: 100 * US, on_core=0.98)).clean_fraction == 1


def test_a_few_clean_blocks_among_many_are_contended():
    clock = FakeClock(lambda run: (1_000 + run % 7 * 100) * US, preempted=lambda run: run % 5 > 0)
    sample = time_fake(clock, stable_samples=10_000)
    assert sample.status == "contended"
    assert sample.clean_fraction == pytest.approx(0.2, abs=0.01)


def test_even_noise_is_given_up_once_it_is_stable():
    # Costs alternate evenly between 1.0 and 1.9 ms: the interval cannot become narrow, the spread is known soon.
    sample = time_fake(FakeClock(lambda run: (1_000 + run * 7 % 10 * 100) * US), half_width=0.0001)
    assert sample.status == "stable-noisy"
    assert sample.samples == 100
    assert sample.minimum == 1_000 * US


def test_noise_that_has_not_settled_ends_at_the_time_limit():
    clock = FakeClock(lambda run: (1_000 + run * 617 % 1_000) * US)
    sample = time_fake(clock, half_width=0.0001, stable_samples=10_000)
    assert sample.status == "unconverged"
    # 1 s of blocks of 1.5 ms on average.
    assert sample.samples == pytest.approx(667, abs=5)


def test_the_time_limit_holds_for_slow_models():
    clock = FakeClock(lambda run: 700_000 * US)
    sample = time_fake(clock, time_limit_ns=2_000_000_000)
    assert sample.status == "unconverged"
    assert sample.samples == 3
    # First run, two medians of five, three blocks.
    assert clock.runs <= 1 + 10 + 3


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=300), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_whatever_the_blocks_are_a_sample_is_consistent(costs, generator):
    clock = FakeClock(lambda run: 1)

    class Source:
        def warm_up(self):
            pass

        def block(self):
            cost = costs[clock.runs % len(costs)]
            clock.run()
            return Block(cost, generator.random() < 0.7)

    sample = collect(Source(), Timing(time_limit_ns=250), lambda: clock().wall_ns)
    assert min(costs) <= sample.minimum <= sample.first_quartile <= sample.median <= max(costs)
    assert 0 <= sample.clean_fraction <= 1
    assert sample.mad >= 0
    assert clock.runs <= 250
    if sample.status == "converged":
        assert sample.relative_half_width <= 0.02


def test_several_threads_do_not_need_cpu_time_of_the_caller():
    sample = time_fake(FakeClock(lambda run: 100 * US, on_core=0.3), min_cpu_share=0.0)
    assert sample.status == "converged"


def test_the_real_clock_advances():
    first = thread_clock()
    sum(range(100_000))
    second = thread_clock()
    assert isinstance(first, Instant)
    assert second.wall_ns > first.wall_ns
    assert second.cpu_ns > first.cpu_ns
    assert second.preemptions >= first.preemptions
