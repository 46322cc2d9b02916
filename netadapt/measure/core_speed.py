"""Notice what the operating system cannot: that the core itself runs slower than it can.

A neighbour on the same physical core (the other hyper-thread, often another virtual machine) or a lowered clock slows
a thread by a quarter and more, without a preemption and with all CPU time accounted. So a small piece of work that
always takes equally long is timed after each block; a block after which it was slow does not count.

Nothing is ever waited for. A thread that sleeps finds cold caches and a lower clock when it wakes, so a core that is
watched from sleep looks slow for as long as it is watched: on one idle virtual machine the work took 31 us back to back
and 57 us after each sleep of 2 ms.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

#: Readings from which the speed of the core and their noise are known. A speed that has lasted for nine tenths of them,
#: a fifth of a second of blocks, is the core's own now.
_WINDOW = 200
#: Readings between two looks at the window; sorting it takes as long as a reading.
_EVERY = 10
#: Which reading is the core's speed: an undisturbed one even where four in five readings are disturbed.
_SPEED = 0.10
#: Noise scatters readings without a gap, however far: on one idle machine from 27 to 34 us. A neighbour makes two kinds
#: of them, 25 % apart and more. So slow readings are those above the first jump by this share from one twentieth of
#: the ordered readings to the next;
_JUMP = 0.10
_TWENTIETH = 0.05
#: but none that is above the speed by less than this: jitter reaches a tenth.
_TOLERANCE = 0.12


class CoreSpeed:
    """Judges the speed of the core by timing `work`, some tens of microseconds of what is measured otherwise.

    Args:
        work: takes equally long whenever the core is equally fast.
        now_ns: the CPU time of the calling thread; time that the scheduler gives to others is not the core's fault.

    """

    def __init__(self, work: Callable[[], object], now_ns: Callable[[], int] = time.thread_time_ns) -> None:
        self._work = work
        self._now_ns = now_ns
        self._readings = deque((self._reading() for _ in range(_WINDOW)), maxlen=_WINDOW)
        self._unseen = 0
        self._speed, self._slow = usual_speed(self._readings)
        self._best = self._speed

    def is_usual(self) -> bool:
        """Whether the core runs, now, as fast as it has been running lately."""
        reading = self._reading()
        self._readings.append(reading)
        self._unseen += 1
        if self._unseen == _EVERY:
            self._unseen = 0
            self._speed, self._slow = usual_speed(self._readings)
            self._best = min(self._best, self._speed)
        return reading <= self._slow

    @property
    def slowdown(self) -> float:
        """How many times as long work takes now as when the core was fastest; 1 within the tolerance."""
        ratio = self._speed / self._best if self._best else 1.0
        return ratio if ratio > 1 + _TOLERANCE else 1.0

    def _reading(self) -> int:
        """The faster of two: a reading is disturbed by the odd interrupt."""
        return min(self._once(), self._once())

    def _once(self) -> int:
        start = self._now_ns()
        self._work()
        return self._now_ns() - start


def usual_speed(readings: Sequence[float]) -> tuple[float, float]:
    """The reading of an undisturbed core, and the one above which a reading is slow."""
    ordered = sorted(readings)
    steps = [ordered[round(q * _TWENTIETH * (len(ordered) - 1))] for q in range(round(1 / _TWENTIETH))]
    speed = steps[round(_SPEED / _TWENTIETH)]
    last = speed
    for step in steps:
        if step > (1 + _JUMP) * last:
            break
        last = max(last, step)
    return speed, max(last, (1 + _TOLERANCE) * speed)
