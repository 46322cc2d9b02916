"""One measurement at a time on a machine, whoever asks for it."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netadapt.errors import MeasurementError

_POLL_S = 0.02


def machine_lock_path() -> Path:
    """Name the lock file that every measurement on this machine's own cores takes."""
    return Path(tempfile.gettempdir()) / "netadapt-measure.lock"


class MeasuringLock:
    """A lock between processes, held while measuring. Its holder may take it again; the system frees it on a kill."""

    def __init__(self, path: Path, on_wait: Callable[[], None] | None = None) -> None:
        self.path = path
        self._on_wait = on_wait
        self._depth = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; `on_wait` is called once when somebody else has it.

        Raises:
            MeasurementError: the lock file can be neither opened nor made.

        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        descriptor = _open(self.path)
        try:
            self._acquire(descriptor)
            self._depth = 1
            yield
        finally:
            self._depth = 0
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting and self._on_wait:
                    self._on_wait()
                waiting = True
                # Polling, unlike a blocking flock, leaves Ctrl-C to Python.
                time.sleep(_POLL_S)
            else:
                return


def _open(path: Path) -> int:
    """Open for reading if at all possible: another user's file in a sticky folder must not be opened to write."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MeasurementError(f"cannot open the measuring lock {path}: {error.strerror}") from error
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise MeasurementError(
            f"cannot make the measuring lock {path}: {error.strerror}; set TMPDIR to a folder that can be written"
        ) from error
