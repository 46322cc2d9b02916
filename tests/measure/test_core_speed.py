"""How the speed of a core is judged, on scripted machines of several kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_machine import MS, US, ScriptedMachine, bursts

from netadapt.measure.core_speed import usual_speed
from netadapt.measure.protocol import Timing, collect

#: Work takes 27, 31, 34 us (first decile, median, last decile) back to back: an idle virtual machine.
COARSE = lambda generator: generator.choice([26.0, 27, 28, 29, 30, 31, 31, 32, 33, 34]) / 31  # noqa: E731
FINE = lambda generator: 1 + generator.expovariate(1 / 0.01)  # noqa: E731


def usual_share(machine, readings=500):
    speed = machine.core_speed()
    return sum(speed.is_usual() for _ in range(readings)) / readings


def measured(machine, cost_ns=250 * US):
    """The tenth measurement on a machine: the sample, and how long all of them took by the wall clock."""
    source = machine.source(cost_ns)
    start = machine.now
    for _ in range(10):
        source.warm_up()
        sample = collect(source, Timing(), lambda: machine.clock().wall_ns)
    return sample, machine.now - start


def test_a_quiet_core_is_usual():
    assert usual_share(ScriptedMachine(jitter=FINE)) > 0.99
    assert ScriptedMachine().core_speed().slowdown == 1


def test_a_core_of_coarse_readings_is_usual_too():
    assert usual_share(ScriptedMachine(jitter=COARSE)) > 0.95


def test_a_neighbour_that_comes_is_noticed_at_once():
    machine = ScriptedMachine(jitter=FINE)
    speed = machine.core_speed()
    machine.slowness = lambda now: 1.3
    assert not any(speed.is_usual() for _ in range(50))


@pytest.mark.parametrize("slow_part", [0.3, 0.6, 0.85])
def test_bursts_are_told_from_quiet_also_when_they_are_most_of_the_time(slow_part):
    machine = ScriptedMachine(bursts(7 * MS, slow_part, 1.35), FINE)
    assert usual_share(machine) == pytest.approx(1 - slow_part, abs=0.12)


def test_a_neighbour_that_stays_is_taken_as_it_is_and_remembered():
    machine = ScriptedMachine(jitter=FINE)
    speed = machine.core_speed()
    machine.slowness = lambda now: 1.3
    assert sum(speed.is_usual() for _ in range(200)) < 30
    assert sum(speed.is_usual() for _ in range(100)) > 95
    assert speed.slowdown == pytest.approx(1.3, abs=0.02)
    machine.slowness = lambda now: 1.0
    assert all(speed.is_usual() for _ in range(100))
    assert speed.slowdown == 1


def test_a_clock_that_drifts_is_followed():
    machine = ScriptedMachine(lambda now: 1 + now / (1_000 * MS), FINE)  # twice as slow after a second
    assert usual_share(machine, 5_000) > 0.98


def test_one_interrupted_reading_is_forgiven():
    machine = ScriptedMachine()
    speed = machine.core_speed()
    long = iter([10.0])
    machine.slowness = lambda now: next(long, 1.0)
    assert speed.is_usual()


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_the_limit_is_above_the_speed_whatever_the_readings(readings):
    speed, slow = usual_speed(readings)
    assert min(readings) <= speed <= max(readings)
    assert slow >= speed + 0.119 * speed


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=200), st.integers(2, 100))
def test_the_unit_of_readings_does_not_matter(readings, factor):
    speed, slow = usual_speed(readings)
    scaled = usual_speed([reading * factor for reading in readings])
    assert scaled == (pytest.approx(factor * speed), pytest.approx(factor * slow))


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(lambda: ScriptedMachine(jitter=FINE, share=2 / 3), id="one busy loop more than cores"),
        pytest.param(lambda: ScriptedMachine(jitter=FINE, share=0.4), id="three more"),
        pytest.param(lambda: ScriptedMachine(jitter=COARSE, share=2 / 3), id="coarse, and one more"),
        pytest.param(lambda: ScriptedMachine(bursts(7 * MS, 0.4, 1.35), FINE), id="bursts"),
        pytest.param(lambda: ScriptedMachine(bursts(50 * MS, 0.7, 1.35), FINE), id="long bursts"),
    ],
)
def test_a_measurement_takes_at_most_twice_what_it_takes_on_a_quiet_machine(machine):
    disturbed = machine()
    quiet = ScriptedMachine(jitter=disturbed._jitter)
    expected, quiet_ns = measured(quiet)
    sample, taken_ns = measured(disturbed)
    assert taken_ns <= 2 * quiet_ns
    assert sample.first_quartile == pytest.approx(expected.first_quartile, rel=0.03)


def test_a_machine_that_is_hardly_ever_quiet_says_how_far_it_may_be_off():
    sample, _ = measured(ScriptedMachine(bursts(7 * MS, 0.8, 1.35), FINE, share=0.5))
    assert sample.status == "contended"
    assert sample.first_quartile * (1 - sample.relative_half_width) <= 255 * US <= sample.first_quartile


def test_what_was_measured_on_a_core_that_has_become_slower_is_contended():
    machine = ScriptedMachine(jitter=FINE)
    speed = machine.core_speed()
    machine.slowness = lambda now: 1.4
    for _ in range(300):
        speed.is_usual()
    sample, _ = measured(machine)
    marked = sample.on_slow_core(speed.slowdown)
    assert marked.status == "contended"
    # The quiet value, two fifths less, is within the interval.
    assert marked.relative_half_width == pytest.approx(1 - 1 / 1.4, abs=0.02)
    assert sample.on_slow_core(1.0) == sample
