"""How to time something on a real clock so that the number can be trusted on a busy machine.

Contention only ever adds time. So: blocks of about 1 ms, of which those count that the scheduler left alone and
during which the core was as fast as it can be, read at their first quartile, until the confidence interval of that
quartile is narrow enough (docs/measuring.md).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from netadapt.measure import statistics
from netadapt.measure.gauge import Gauge
from netadapt.measure.measurement import UNITS, Measurement, Provenance, Status, Tier

#: Part of the key of every table entry: raise it when a change below changes the numbers.
PROTOCOL_VERSION = 2

QUARTILE = 0.25


@dataclass(frozen=True, slots=True)
class Timing:
    """Parameters of the protocol; times in ns."""

    time_limit_ns: int = 1_000_000_000
    block_ns: int = 1_000_000
    warmup_samples: int = 5
    warmup_agreement: float = 0.05
    #: Share of the wall time of a block that its thread must have spent on a core. 0 for several threads.
    min_cpu_share: float = 0.97
    confidence: float = 0.99
    half_width: float = 0.02
    check_every: int = 10
    #: The noise is stable when, over `stable_checks` checks, the relative MAD stays within `stable_agreement`.
    stable_samples: int = 100
    stable_checks: int = 5
    stable_agreement: float = 0.05
    #: With fewer clean blocks than this, a measurement that did not converge is blamed on contention.
    contended_below: float = 0.5


@dataclass(frozen=True, slots=True)
class Instant:
    """A reading of the clock of the calling thread."""

    wall_ns: int
    cpu_ns: int
    #: How often the scheduler has taken the core away from this thread.
    preemptions: int


@dataclass(frozen=True, slots=True)
class Block:
    """Cost of one run, averaged over the runs of a block; clean when nothing else was seen to interfere."""

    cost: float
    clean: bool = True
    #: Time spent waiting for the core before the block; does not count towards the time limit.
    waited_ns: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a series of blocks says about the cost of one run, in the unit of the blocks."""

    first_quartile: float
    minimum: float
    median: float
    mad: float
    samples: int
    clean_fraction: float
    relative_half_width: float | None
    status: Status


Clock = Callable[[], Instant]


class BlockSource(Protocol):
    """Something that can be timed block by block: a callable on this machine, or a program on a device."""

    def warm_up(self) -> None:
        """Bring the source into the state in which it is to be timed."""

    def block(self) -> Block:
        """Run one block and tell its cost."""


def thread_clock() -> Instant:
    """Read the wall clock, and the CPU time and preemptions of the calling thread."""
    # Only Linux counts preemptions per thread; elsewhere those of the process are the nearest there is.
    usage = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
    return Instant(time.perf_counter_ns(), time.thread_time_ns(), usage.ru_nivcsw)


class CallableSource:
    """Blocks of calls of a function in this thread."""

    def __init__(
        self,
        run: Callable[[], object],
        timing: Timing,
        clock: Clock = thread_clock,
        gauge: Gauge | None = None,
    ) -> None:
        self._run = run
        self._timing = timing
        self._clock = clock
        self._gauge = gauge
        self._runs = 1

    def warm_up(self) -> None:
        """Find the block length, then run blocks until two medians in a row agree, for half the time limit at most."""
        timing = self._timing
        deadline = self._clock().wall_ns + timing.time_limit_ns // 2
        self._runs = 1
        cost = self.block().cost
        while cost * self._runs < timing.block_ns / 2 and self._clock().wall_ns < deadline:
            self._runs *= 2
            cost = self.block().cost
        before = cost = self._median()
        while self._clock().wall_ns < deadline:
            before, cost = cost, self._median()
            if abs(cost - before) <= timing.warmup_agreement * before:
                break
        self._runs = max(1, round(timing.block_ns / max(cost, 1)))

    def block(self) -> Block:
        """Time one block of calls, in ns a call."""
        run, runs = self._run, range(self._runs)
        waited = self._gauge.wait() if self._gauge else 0
        start = self._clock()
        for _ in runs:
            run()
        end = self._clock()
        wall = end.wall_ns - start.wall_ns
        undisturbed = end.preemptions == start.preemptions
        on_core = end.cpu_ns - start.cpu_ns >= self._timing.min_cpu_share * wall
        fast = self._gauge is None or self._gauge.is_fast()
        return Block(wall / self._runs, undisturbed and on_core and fast, waited)

    def _median(self) -> float:
        return statistics.median([self.block().cost for _ in range(self._timing.warmup_samples)])


def time_callable(run: Callable[[], object], timing: Timing, clock: Clock = thread_clock) -> Sample:
    """Time a function in this thread; costs are in ns a call."""
    source = CallableSource(run, timing, clock)
    source.warm_up()
    return collect(source, timing, lambda: clock().wall_ns)


def collect(source: BlockSource, timing: Timing, now_ns: Callable[[], int] = time.perf_counter_ns) -> Sample:
    """Take blocks of a source that is warm until a stop rule of the protocol holds."""
    deadline = now_ns() + timing.time_limit_ns
    blocks: list[Block] = []
    spreads: list[float] = []
    while True:
        blocks.append(source.block())
        deadline += blocks[-1].waited_ns
        late = now_ns() >= deadline
        if len(blocks) % timing.check_every and not late:
            continue
        clean = [block.cost for block in blocks if block.clean]
        width = _relative_half_width(clean, timing)
        if width is not None and width <= timing.half_width:
            return _summary(blocks, clean, width, "converged")
        spreads.append(_relative_mad(clean))
        if _is_stable(spreads, len(clean), timing):
            return _summary(blocks, clean, width, "stable-noisy")
        if late:
            contended = len(clean) < timing.contended_below * len(blocks)
            return _summary(blocks, clean, width, "contended" if contended else "unconverged")


def latency_of(sample: Sample, tier: Tier, provenance: Provenance) -> Measurement:
    """The latency that a series of blocks, in ns, shows."""
    return Measurement(
        metric="latency",
        unit=UNITS["latency"],
        value=round(sample.first_quartile),
        minimum=round(sample.minimum),
        median=round(sample.median),
        mad=round(sample.mad),
        samples=sample.samples,
        clean_fraction=sample.clean_fraction,
        relative_half_width=sample.relative_half_width,
        status=sample.status,
        tier=tier,
        provenance=provenance,
    )


def _relative_half_width(costs: list[float], timing: Timing) -> float | None:
    interval = statistics.quantile_interval(costs, QUARTILE, timing.confidence)
    if interval is None:
        return None
    quartile = statistics.quantile(costs, QUARTILE)
    return (interval[1] - interval[0]) / 2 / quartile if quartile else 0.0


def _relative_mad(costs: list[float]) -> float:
    middle = statistics.median(costs) if costs else 0.0
    return statistics.median_absolute_deviation(costs) / middle if middle else 0.0


def _is_stable(spreads: list[float], samples: int, timing: Timing) -> bool:
    recent = spreads[-timing.stable_checks :]
    if samples < timing.stable_samples or len(recent) < timing.stable_checks:
        return False
    return max(recent) - min(recent) <= timing.stable_agreement * max(recent)


def _summary(blocks: list[Block], clean: list[float], width: float | None, status: Status) -> Sample:
    # Without any clean block the rest is all there is; the status then says "contended".
    costs = clean or [block.cost for block in blocks]
    return Sample(
        first_quartile=statistics.quantile(costs, QUARTILE),
        minimum=min(costs),
        median=statistics.median(costs),
        mad=statistics.median_absolute_deviation(costs),
        samples=len(clean),
        clean_fraction=len(clean) / len(blocks),
        relative_half_width=width,
        status=status,
    )
