"""A clock that the test turns by hand."""

from __future__ import annotations

from netadapt.measure.protocol import Instant


class FakeClock:
    """Time passes only in `run`, by the cost that the test's function gives for each run.

    A run that is preempted waits `away` besides.
    """

    def __init__(self, cost, on_core=1.0, preempted=lambda run: False, away=0):
        self.runs = 0
        self._cost = cost
        self._on_core = on_core
        self._preempted = preempted
        self._away = away
        self._wall = self._cpu = self._preemptions = 0

    def __call__(self):
        return Instant(round(self._wall), round(self._cpu), self._preemptions)

    def run(self):
        cost = self._cost(self.runs)
        self._wall += cost
        self._cpu += cost * self._on_core
        if self._preempted(self.runs):
            self._preemptions += 1
            self._wall += self._away
        self.runs += 1
