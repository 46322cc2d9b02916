"""Progress for a log: a line when a stage begins, and then at least every half minute."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from netadapt.progress.status import Status
from netadapt.progress.time_left import TimeLeft

#: Less than half a minute by what a tick and a slow machine may add.
PERIOD_S = 20.0


class Lines:
    """Writes lines; `tick` is to be called every few seconds, so that work that reports nothing is heard of too.

    Args:
        write: takes each line.
        time_left: what is said of the time left.
        clock: gives the time in seconds.

    """

    def __init__(
        self, write: Callable[[str], None], time_left: TimeLeft, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._time_left = time_left
        self._clock = clock
        self._status: Status | None = None
        self._written = clock()
        #: When a line of each stage was last written at once.
        self._begun: dict[str, float] = {}
        self._lock = threading.Lock()

    def show(self, status: Status) -> None:
        """Take note of a status; the first one of a stage is written at once, others when it is time.

        Two processes that take turns at measuring wait and go on several times a second: a stage that was begun a
        moment ago does not begin anew.
        """
        with self._lock:
            begins = self._status is None or status.stage != self._status.stage
            self._status = status
            if begins and self._clock() - self._begun.get(status.stage, -math.inf) >= PERIOD_S:
                self._begun[status.stage] = self._clock()
                self._write_line(status.text)
            else:
                self._write_if_due()

    def say(self, text: str) -> None:
        """Write a line."""
        with self._lock:
            self._write(text)

    def clear(self) -> None:
        """Write no status any more."""
        with self._lock:
            self._status = None
            self._begun.clear()

    def tick(self) -> None:
        """Write the status if none was written for a while."""
        with self._lock:
            self._write_if_due()

    def _write_if_due(self) -> None:
        status = self._status
        if status is None or self._clock() - self._written < PERIOD_S:
            return
        counted = f": {status.done} of {status.total}" if status.total else ""
        self._write_line(f"{status.text}{counted}, {self._time_left}")

    def _write_line(self, text: str) -> None:
        self._written = self._clock()
        self._write(text)
