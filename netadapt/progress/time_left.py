"""How long work in stages still takes: the present one by its own pace, later ones by what is expected of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class TimeLeft:
    """An estimate of the time left.

    Args:
        clock: gives the time in seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._later: dict[str, float | None] = {}
        self.begin("")

    def expect(self, stages: Mapping[str, float | None]) -> None:
        """Take note of stages that come later, with the seconds that each takes, or None where that is not known."""
        self._later.update(stages)

    def begin(self, stage: str) -> None:
        """Begin a stage."""
        self._expected = self._later.pop(stage, None)
        self._begun = self._heard = self._counting_since = self._clock()
        self._first = self._done = self._total = 0.0

    def advance(self, done: float, total: float) -> None:
        """Take note of how much of the stage is done; a stage may count several things one after another."""
        now = self._clock()
        if done < self._done or not self._total:
            # The first thing has been worked on since the last event; a search that is resumed begins in the middle.
            self._counting_since, self._first = (self._heard, 0.0) if done <= 1 else (now, done)
        self._done, self._total, self._heard = done, total, now

    @property
    def seconds(self) -> float | None:
        """The seconds left, as far as they are known; None if nothing is known."""
        current = self._current()
        return None if current is None else current + sum(seconds or 0.0 for seconds in self._later.values())

    def __str__(self) -> str:
        """Say it for people: how long it still takes, or else how long the stage has taken so far."""
        seconds = self.seconds
        if seconds is None:
            return f"{readable(self._clock() - self._begun)} so far"
        return f"{'at least' if None in self._later.values() else 'about'} {readable(seconds)} left"

    def _current(self) -> float | None:
        now = self._clock()
        if self._done > self._first:
            pace = (now - self._counting_since) / (self._done - self._first)
            return pace * max(self._total - self._done, 0.0)
        if self._expected is not None and now - self._begun < self._expected:
            return self._expected - (now - self._begun)
        return None


def readable(seconds: float) -> str:
    """Return a duration in a unit that people read: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
