"""Notice what the operating system cannot: that the core itself runs slower than it can.

A neighbour on the same physical core (the other hyper-thread, often somebody else's virtual machine) or a lowered
clock slows a thread by a quarter and more, without a preemption and with all CPU time accounted. So a small piece of
work that always takes equally long is timed between the blocks: while it is slow, the blocks do not count.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from netadapt.measure import statistics

#: Relative slowness up to which a reading counts as fast; a neighbour costs 25 % and more, jitter up to a tenth.
_TOLERANCE = 0.12
#: How many of the last fast readings say how fast the core is, and which of them: the very fastest of hundreds is
#: luck that does not come again, and against it most readings of an idle core would be slow.
_READINGS = 50
_QUANTILE = 0.1
#: A core that has been slow for this long is not waited for any more: that is its speed now.
_PATIENCE_NS = 5_000_000_000
#: After each wait in vain patience halves, down to this; otherwise a neighbour who comes and goes would cost it all,
#: again and again.
_LEAST_PATIENCE_NS = 100_000_000
_PAUSE_S = 0.002


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
        self._patience_ns = _PATIENCE_NS
        self._slow_since: int | None = None
        self._slow: deque[int] = deque(maxlen=_READINGS)
        self._fast = deque((self._reading() for _ in range(_READINGS)), maxlen=_READINGS)

    def is_fast(self) -> bool:
        """Whether the core runs, now, as fast as it has been seen to run lately."""
        reading, now = self._reading(), self._now_ns()
        if reading <= statistics.quantile(self._fast, _QUANTILE) * (1 + _TOLERANCE):
            self._fast.append(reading)
            if self._slow_since is not None:
                self._slow_since, self._patience_ns = None, _PATIENCE_NS  # it was worth waiting for
            return True
        if self._slow_since is None:
            self._slow_since = now
            self._slow.clear()
        self._slow.append(reading)
        if now - self._slow_since < self._patience_ns:
            return False
        self._fast, self._slow_since = self._slow.copy(), None
        self._patience_ns = max(self._patience_ns // 2, _LEAST_PATIENCE_NS)
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
