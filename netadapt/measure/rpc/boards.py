"""The emulated boards of a platform, and the tracker that gives each of them to one measurement at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from netadapt.errors import MeasurementError
from netadapt.measure.platform import Platform
from netadapt.measure.rpc.emulated import EmulatedBoard
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.measure.rpc.tracker import Tracker

#: What the boards call themselves; their tracker is nobody else's.
KEY = "emulated"
_TRACKER_LIMIT_S = 10.0
_REGISTERING_LIMIT_S = 20.0
_POLL_S = 0.05


class EmulatedBoards:
    """Emulated boards, started when they are first needed. For any number of threads.

    Args:
        platform: one with emulated boards.
        count: how many boards.

    """

    def __init__(self, platform: Platform, count: int) -> None:
        self._platform = platform
        self._count = count
        self._tracker: PrivateTracker | None = None
        self._boards: list[EmulatedBoard] = []
        self._changing = threading.Lock()

    def tracker(self, warm_up: Callable[[], Mapping[str, bytes]]) -> str:
        """HOST:PORT of the tracker that all boards are registered at. Replaces what is no longer alive.

        Args:
            warm_up: gives what `emulated.warm_up_files` does; asked for when boards have to be started.

        Raises:
            SetupError: the simulator is not set up.
            MeasurementError: a board or the tracker does not start.

        """
        with self._changing:
            if self._tracker is None or not self._tracker.alive:
                self._close()
                self._tracker = PrivateTracker()
            dead = [board for board in self._boards if not board.alive]
            self._boards = [board for board in self._boards if board.alive]
            for board in dead:
                board.close()
            if len(self._boards) < self._count:
                self._start(self._tracker.address, self._count - len(self._boards), warm_up())
            return self._tracker.address

    @property
    def pids(self) -> Sequence[int]:
        """Process ids of the boards and of the tracker."""
        tracker = [self._tracker.pid] if self._tracker else []
        return [*(board.pid for board in self._boards), *tracker]

    def close(self) -> None:
        """End all boards, and the tracker."""
        with self._changing:
            self._close()

    def _close(self) -> None:
        for board in self._boards:
            board.close()
        self._boards = []
        if self._tracker:
            self._tracker.close()
        self._tracker = None

    def _start(self, tracker: str, count: int, warm_up: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(count) as pool:
            starts = [pool.submit(EmulatedBoard, self._platform, tracker, KEY, warm_up) for _ in range(count)]
        # All are kept that did start, also when another did not.
        self._boards += [start.result() for start in starts if not start.exception()]
        for start in starts:
            start.result()
        self._await_registered(tracker)

    def _await_registered(self, tracker: str) -> None:
        deadline = time.monotonic() + _REGISTERING_LIMIT_S
        while len(Tracker(tracker, _TRACKER_LIMIT_S).servers()) < self._count:
            if time.monotonic() > deadline:
                raise MeasurementError(
                    f"{self._platform.name}: the emulated boards did not register within {_REGISTERING_LIMIT_S:g} s"
                )
            time.sleep(_POLL_S)
