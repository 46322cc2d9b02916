"""The gauge, on a core whose speed the test sets."""

from __future__ import annotations

from netadapt.measure.gauge import Gauge
from netadapt.measure.protocol import Block, CallableSource, Timing, collect

US = 1_000


class Core:
    """Time passes in work, by its length times the slowness of the core at that moment, and in sleep."""

    def __init__(self, slowness=lambda now_ns: 1.0):
        self.now = 0.0
        self.slept = 0
        self._slowness = slowness

    def work(self, length_ns=50 * US):
        self.now += length_ns * self._slowness(self.now)

    def sleep(self, seconds):
        self.slept += 1
        self.now += seconds * 1e9

    def now_ns(self):
        return round(self.now)

    def gauge(self):
        return Gauge(self.work, self.now_ns, self.sleep)


def slow_between(start_ns, end_ns, slowness=1.3):
    return lambda now: slowness if start_ns <= now < end_ns else 1.0


def test_a_steady_core_is_fast_and_never_waited_for():
    gauge = Core().gauge()
    assert gauge.is_fast()
    assert gauge.wait() == 0


def test_jitter_is_not_slowness_but_a_neighbour_is():
    core = Core(lambda now: 1.05 if now > 10_000 * US else 1.0)
    gauge = core.gauge()
    core.now = 20_000 * US
    assert gauge.is_fast()
    core = Core(slow_between(10_000 * US, 1e12))
    gauge = core.gauge()
    core.now = 20_000 * US
    assert not gauge.is_fast()


def test_a_slow_core_is_waited_for():
    core = Core(slow_between(10_000 * US, 1_000_000 * US))
    gauge = core.gauge()
    core.now = 20_000 * US
    assert gauge.wait() == 0  # nothing has been noticed yet
    assert not gauge.is_fast()
    waited = gauge.wait()
    assert 970_000 * US < waited < 985_000 * US
    assert gauge.is_fast()
    assert core.slept > 100


def test_a_core_that_stays_slow_is_taken_as_it_is():
    core = Core(slow_between(10_000 * US, 1e15))
    gauge = core.gauge()
    core.now = 20_000 * US
    assert not gauge.is_fast()
    assert 4.9e9 < gauge.wait() < 5.1e9
    assert gauge.is_fast()
    # And should it become fast again, that is what counts from then on.
    core._slowness = lambda now: 1.0
    assert all(gauge.is_fast() for _ in range(50))
    core._slowness = lambda now: 1.3
    assert not gauge.is_fast()


def test_patience_that_was_in_vain_is_halved_and_comes_back_when_it_pays():
    core = Core(slow_between(10_000 * US, 6e9))
    gauge = core.gauge()
    core.now = 20_000 * US
    for patience in (5e9, 2.5e9):
        assert not gauge.is_fast()
        assert 0.98 * patience < gauge.wait() < 1.02 * patience
        core._slowness = lambda now: 1.0
        assert all(gauge.is_fast() for _ in range(50))
        core._slowness = slow_between(0, core.now + 10e9)
    assert not gauge.is_fast()
    core._slowness = slow_between(0, core.now + 0.5e9)
    assert 0.48e9 < gauge.wait() < 0.52e9
    core._slowness = slow_between(0, 1e15)
    assert not gauge.is_fast()
    assert 4.9e9 < gauge.wait() < 5.1e9


def test_patience_stays_at_its_least_while_every_wait_is_in_vain():
    core = Core(slow_between(10_000 * US, 6e9))
    gauge = core.gauge()
    core.now = 20_000 * US
    waits = []
    for _ in range(9):
        core._slowness = lambda now: 1.3
        assert not gauge.is_fast()
        waits.append(gauge.wait())
        core._slowness = lambda now: 1.0
        assert all(gauge.is_fast() for _ in range(50))
    assert 4.9e9 < waits[0] < 5.1e9
    assert all(wait < 0.11e9 for wait in waits[6:])


def test_one_lucky_reading_does_not_make_all_others_slow():
    core = Core(lambda now: 1.08)
    gauge = core.gauge()
    core._slowness = lambda now: 0.95
    assert gauge.is_fast()
    core._slowness = lambda now: 1.08
    assert gauge.is_fast()


def test_one_interrupted_reading_is_forgiven():
    core = Core()
    gauge = core.gauge()
    long = iter([10.0])
    core._slowness = lambda now: next(long, 1.0)
    assert gauge.is_fast()


class Source(CallableSource):
    """Runs 1 ms of work a block on the core, with a gauge."""

    def __init__(self, core):
        from netadapt.measure.protocol import Instant

        clock = lambda: Instant(core.now_ns(), core.now_ns(), 0)  # noqa: E731
        super().__init__(lambda: core.work(1_000 * US), Timing(time_limit_ns=1_000_000 * US), clock, core.gauge())


def test_blocks_on_a_slow_core_do_not_count_and_waiting_takes_nothing_off_the_time_limit():
    # Fast for 10 ms only, then slow for two seconds, twice the time limit, then fast.
    core = Core(slow_between(10_000 * US, 2_000_000 * US))
    source = Source(core)
    sample = collect(source, Timing(time_limit_ns=1_000_000 * US), core.now_ns)
    assert sample.status == "converged"
    assert sample.first_quartile == sample.median == 1_000 * US
    assert 0.85 < sample.clean_fraction < 1


def test_a_block_tells_how_long_it_was_waited_for():
    core = Core(slow_between(10_000 * US, 100_000 * US))
    source = Source(core)
    core.now = 20_000 * US
    assert source.block() == Block(1_300 * US, clean=False)
    block = source.block()
    assert block.clean
    assert block.waited_ns > 70_000 * US
