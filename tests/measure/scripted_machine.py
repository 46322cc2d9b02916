"""A core whose speed, scheduler and memory of sleep a test scripts; time passes only in work."""

from __future__ import annotations

import random

from netadapt.measure.core_speed import CoreSpeed
from netadapt.measure.protocol import CallableSource, Instant, Timing

US = 1_000
MS = 1_000 * US


class ScriptedMachine:
    """One core of a machine.

    Args:
        slowness: factor of all work, by the time in ns.
        jitter: factor of each piece of work, drawn from a generator.
        share: of the core that this thread gets; others take turns of 3 ms with it.

    """

    def __init__(self, slowness=lambda now_ns: 1.0, jitter=lambda generator: 1.0, share=1.0):
        self.now = self.cpu = 0.0
        self.preemptions = 0
        self.slowness = slowness
        self.share = share
        self._jitter = jitter
        self._generator = random.Random(0)
        self._slice_left = 3.0 * MS

    def work(self, length_ns):
        taken = length_ns * self.slowness(self.now) * self._jitter(self._generator)
        self.cpu += taken
        self.now += taken
        self._slice_left -= taken
        if self.share < 1 and self._slice_left <= 0:
            self.preemptions += 1
            self.now += 3 * MS * (1 / self.share - 1)
            self._slice_left = 3.0 * MS

    def clock(self):
        return Instant(round(self.now), round(self.cpu), self.preemptions)

    def core_speed(self):
        return CoreSpeed(lambda: self.work(50 * US), lambda: round(self.cpu))

    def source(self, cost_ns=250 * US):
        """A model of this cost, watched as models on this machine are."""
        return CallableSource(lambda: self.work(cost_ns), Timing(), self.clock, self.core_speed())


def bursts(period_ns, slow_part, slowness):
    """Slow for a part of each period: a neighbour that comes and goes."""
    return lambda now: slowness if now % period_ns < slow_part * period_ns else 1.0
