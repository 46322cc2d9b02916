"""Notice what the operating system cannot: that the core itself runs slower than it can.

A neighbour on the same physical core (the other hyper-thread, often somebody else's virtual machine) or a lowered
clock slows a thread by a quarter and more, without a preemption and with all CPU time accounted. So a small piece of
work that always takes equally long is timed between the blocks: while it is slow, the blocks do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Relative slowness up to which a reading counts as fast; a neighbour costs 25 % and more, jitter 2 %.
_TOLERANCE = 0.07
#: A core that has been slow for this long is not waited for any more: that is its speed now.
_PATIENCE_NS = 5_000_000_000
_PAUSE_S = 0.002
#: Readings taken at first, so that one bad moment does not pass for the core's speed.
_FIRST_READINGS = 50


class Gauge:
    """Reads the speed of the core by timing `work`, some tens of microseconds of what is measured otherwise."""

    def __init__(
        self,
        work: Callable[[], object],
        now_ns: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._work = work
        self._now_ns = now_ns
        self._sleep = sleep
        self._slow_since: int | None = None
        self._best_while_slow = 0
        self._best = min(self._reading() for _ in range(_FIRST_READINGS))

    def is_fast(self) -> bool:
        """Whether the core runs, now, as fast as it has been seen to run lately."""
        reading = self._reading()
        if reading <= self._best * (1 + _TOLERANCE):
            self._best = min(self._best, reading)
            self._slow_since = None
            return True
        now = self._now_ns()
        if self._slow_since is None:
            self._slow_since, self._best_while_slow = now, reading
        self._best_while_slow = min(self._best_while_slow, reading)
        if now - self._slow_since < _PATIENCE_NS:
            return False
        self._best, self._slow_since = self._best_while_slow, None
        return True

    def wait(self) -> int:
        """Wait until the core is fast again; at once if it was at the last look. Gives the time waited in ns."""
        if self._slow_since is None:
            return 0
        start = self._now_ns()
        while not self.is_fast():
            self._sleep(_PAUSE_S)
        return self._now_ns() - start

    def _reading(self) -> int:
        """The faster of two: a reading is disturbed by the odd interrupt."""
        return min(self._once(), self._once())

    def _once(self) -> int:
        start = self._now_ns()
        self._work()
        return self._now_ns() - start
