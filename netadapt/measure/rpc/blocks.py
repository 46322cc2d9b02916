"""Blocks of runs that a board has timed: which of them count, and whether the board was fit to be measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from netadapt.errors import ClockZero, Throttled
from netadapt.measure import statistics
from netadapt.measure.protocol import Block, Timing
from netadapt.measure.rpc.answers import UnusableAnswer, json_of, number
from netadapt.wording import counted

_COOLING_POLL_S = 0.5
#: Share of its highest clock below which a core counts as slowed down.
_LEAST_CLOCK = 0.9
#: In a block, whatever a board's clock says.
_MOST_RUNS = 1 << 24


@dataclass(frozen=True, slots=True)
class State:
    """Temperature of a board and the clock of its cores; None where it does not tell."""

    celsius: float | None = None
    mhz: float | None = None
    max_mhz: float | None = None

    def fault(self, most_celsius: float) -> str | None:
        """Say why the board cannot be measured now; None if it can."""
        if self.celsius is not None and self.celsius > most_celsius:
            return f"it is {self.celsius:.0f} °C hot (at most {most_celsius:.0f} are allowed)"
        if self.mhz and self.max_mhz and self.mhz < _LEAST_CLOCK * self.max_mhz:
            return f"its cores run at {self.mhz:.0f} MHz of {self.max_mhz:.0f}"
        return None


@dataclass(frozen=True, slots=True)
class BlockTime:
    """What one block of runs took, on the board's own clocks."""

    wall_ns: float
    #: Time that its thread was on a core, and how often the scheduler took the core away; None where nobody counts.
    cpu_ns: float | None = None
    preemptions: int | None = None


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """Blocks that were timed one after the other, and the board's state after the last."""

    blocks: tuple[BlockTime, ...]
    state: State

    @classmethod
    def from_answer(cls, answer: object, count: int) -> BlockTimes:
        """Read the device server's answer to a question for `count` blocks.

        Raises:
            UnusableAnswer: it is not one.

        """
        found = json_of(answer)
        try:
            blocks = tuple(
                BlockTime(number(wall), number(cpu), round(number(off))) for wall, cpu, off in found["blocks"]
            )
            state = State(**{name: value if value is None else number(value) for name, value in found["state"].items()})
            if len(blocks) != count:
                raise ValueError(f"{len(blocks)} blocks instead of {count}")
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise UnusableAnswer(
                f"it does not answer with times of blocks, as netadapt-device does: {error}"
            ) from error
        return cls(blocks, state)


class TimedProgram(Protocol):
    """A model that is ready to run on a board."""

    def blocks(self, runs: int, count: int) -> BlockTimes:
        """Time `count` blocks of `runs` runs each."""


class RemoteSource:
    """Blocks of a program on a board, in ns a run.

    They are taken in batches, so that the board does not idle, and lower its clock, while each of them travels.

    Args:
        program: what to run.
        timing: parameters of the protocol.
        most_celsius: temperature above which the board counts as throttled.
        cooling_limit_s: how long a throttled board is waited for, in all.
        batch: how many blocks to take at once. 1 where something else is to run between them.
        sleep: waits for the board to cool.

    Raises:
        ClockZero: a block took no time.
        Throttled: the board stays too hot, or its clock too low.

    """

    def __init__(
        self,
        program: TimedProgram,
        timing: Timing,
        most_celsius: float,
        cooling_limit_s: float,
        batch: int = 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._program = program
        self._timing = timing
        self._most_celsius = most_celsius
        self._cooling_limit_s = cooling_limit_s
        self._batch = batch
        self._sleep = sleep
        self._runs = 1
        self._waited_s = 0.0
        self._ready: deque[Block] = deque()

    def warm_up(self) -> None:
        """Find the block length, then run blocks until two medians in a row agree, for half the time limit at most."""
        timing = self._timing
        deadline = time.monotonic() + timing.time_limit_ns / 2e9
        self._ready.clear()
        self._runs = 1
        cost = self._cost(1)
        while cost * self._runs < timing.block_ns / 2 and self._runs < _MOST_RUNS and time.monotonic() < deadline:
            self._runs *= 2
            cost = self._cost(1)
        before = cost = self._cost(timing.warmup_samples)
        while time.monotonic() < deadline:
            before, cost = cost, self._cost(timing.warmup_samples)
            if abs(cost - before) <= timing.warmup_agreement * before:
                break
        self._runs = max(1, round(min(_MOST_RUNS, timing.block_ns / cost)))

    def block(self) -> Block:
        """Take the next block."""
        if not self._ready:
            self._ready.extend(self._take(self._batch))
        return self._ready.popleft()

    def _cost(self, count: int) -> float:
        return statistics.median([block.cost for block in self._take(count)])

    def _take(self, count: int) -> list[Block]:
        waited_before_s = self._waited_s
        times = self._program.blocks(self._runs, count)
        while fault := times.state.fault(self._most_celsius):
            if self._waited_s >= self._cooling_limit_s:
                raise Throttled(
                    f"the board is throttled and stayed so for {self._cooling_limit_s:g} s: {fault}; let it cool, give"
                    " it a fan, fix its clock, or raise rpc.most_celsius of the platform"
                )
            self._sleep(_COOLING_POLL_S)
            self._waited_s += _COOLING_POLL_S
            times = self._program.blocks(self._runs, count)
        if any(block.wall_ns <= 0 for block in times.blocks):
            raise ClockZero(
                f"the board's clock says that {counted(self._runs, 'run')} took no time; it cannot be used to measure"
            )
        share, runs = self._timing.min_cpu_share, self._runs
        blocks = [
            Block.timed(runs, block.wall_ns, block.cpu_ns, block.preemptions, min_cpu_share=share)
            for block in times.blocks
        ]
        waited_ns = round((self._waited_s - waited_before_s) * 1e9)
        return [replace(blocks[0], waited_ns=waited_ns), *blocks[1:]]
