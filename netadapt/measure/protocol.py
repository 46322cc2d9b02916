"""How to time something on a real clock so that the number can be trusted on a busy machine.

Contention only ever adds time. So: blocks of about 1 ms, of which those count that the scheduler left alone and
during which the core was as fast as usual, read at their first quartile, until the confidence interval of that
quartile is narrow enough, or until more time has been lost to others than spent on blocks that count
(docs/measuring.md).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from netadapt.measure import statistics
from netadapt.measure.core_speed import CoreSpeed
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
    #: Fewest blocks that a measurement on a disturbed machine takes, and fewest clean ones that are better than all.
    fewest_samples: int = 10
    fewest_clean: int = 5


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
    #: Time that a board was left to cool before the block; does not count towards the time limit.
    waited_ns: int = 0
    #: What all runs of the block took by the wall clock; 0 where no clock but the model's own is read.
    wall_ns: float = 0.0

    @classmethod
    def timed(
        cls,
        runs: int,
        wall_ns: float,
        cpu_ns: float | None = None,
        preemptions: int | None = None,
        *,
        min_cpu_share: float,
    ) -> Block:
        """Judge a block of `runs` runs by its clocks; None where a clock has no such count.

        A block that was interrupted costs the CPU time of its thread, which leaves out what others had of the core.
        The wall time stands where the thread waited by itself, or works through other threads (`min_cpu_share` of 0).
        """
        on_core = cpu_ns is None or cpu_ns >= min_cpu_share * wall_ns
        clean = on_core and not preemptions
        cost_ns = cpu_ns if preemptions and cpu_ns and min_cpu_share else wall_ns
        return cls(cost_ns / runs, clean, wall_ns=wall_ns)


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

    def on_slow_core(self, slowdown: float) -> Sample:
        """The same on a core that has been `slowdown` times as fast (1: no faster): contended, and that uncertain."""
        if slowdown <= 1:
            return self
        return replace(
            self,
            status="contended",
            relative_half_width=max(self.relative_half_width or 0.0, 1 - 1 / slowdown),
        )


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
        core_speed: CoreSpeed | None = None,
    ) -> None:
        self._run = run
        self._timing = timing
        self._clock = clock
        self._core_speed = core_speed
        self._runs = 1

    def warm_up(self) -> None:
        """Find the block length, then run blocks until two quartiles in a row agree, for half the time limit at most.

        Quartiles of the cost, as medians would follow a neighbour that comes and goes.
        """
        timing = self._timing
        deadline = self._clock().wall_ns + timing.time_limit_ns // 2
        self._runs = 1
        cost = self.block().cost
        while cost * self._runs < timing.block_ns / 2 and self._clock().wall_ns < deadline:
            self._runs *= 2
            cost = self.block().cost
        before = cost = self._quartile()
        while self._clock().wall_ns < deadline:
            before, cost = cost, self._quartile()
            if abs(cost - before) <= timing.warmup_agreement * before:
                break
        self._runs = max(1, round(timing.block_ns / max(cost, 1)))

    def block(self) -> Block:
        """Time one block of calls, in ns a call."""
        run, runs = self._run, range(self._runs)
        start = self._clock()
        for _ in runs:
            run()
        end = self._clock()
        block = Block.timed(
            self._runs,
            end.wall_ns - start.wall_ns,
            end.cpu_ns - start.cpu_ns,
            end.preemptions - start.preemptions,
            min_cpu_share=self._timing.min_cpu_share,
        )
        usual = self._core_speed is None or self._core_speed.is_usual()
        return block if usual else replace(block, clean=False)

    def _quartile(self) -> float:
        return statistics.quantile([self.block().cost for _ in range(self._timing.warmup_samples)], QUARTILE)


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
        contended = _is_contended(blocks)
        if contended and len(blocks) >= timing.fewest_samples:
            return _contended(blocks, clean, width, timing)
        if late:
            return _contended(blocks, clean, width, timing) if contended else _summary(blocks, clean, width)


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


def _is_contended(blocks: list[Block]) -> bool:
    """Whether blocks that do not count took more of the time than those that do.

    A measurement ends with this, so that it takes at most about twice what it takes on a quiet machine.
    """
    lost, spent = (
        sum(block.wall_ns or block.cost for block in blocks if block.clean is clean) for clean in (False, True)
    )
    return lost > spent


def _contended(blocks: list[Block], clean: list[float], width: float | None, timing: Timing) -> Sample:
    """Summarise blocks of a machine that is too busy: the clean ones, or all if those are too few.

    Contention only adds time, so the cost lies between the least that was seen and the first quartile.
    """
    costs = clean if len(clean) >= timing.fewest_clean else [block.cost for block in blocks]
    sample = _summary(blocks, costs, width, "contended")
    interval = _relative_half_width(costs, timing) or 0.0
    above_least = 1 - sample.minimum / sample.first_quartile if sample.first_quartile else 0.0
    return replace(sample, relative_half_width=max(interval, above_least))


def _summary(blocks: list[Block], costs: list[float], width: float | None, status: Status = "unconverged") -> Sample:
    # Without any clean block the rest is all there is.
    costs = costs or [block.cost for block in blocks]
    return Sample(
        first_quartile=statistics.quantile(costs, QUARTILE),
        minimum=min(costs),
        median=statistics.median(costs),
        mad=statistics.median_absolute_deviation(costs),
        samples=len(costs),
        clean_fraction=sum(block.clean for block in blocks) / len(blocks),
        relative_half_width=width,
        status=status,
    )
