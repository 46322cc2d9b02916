"""One measurement at a time on a machine, for all processes of a user."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from netadapt.errors import MeasurementError

_POLL_S = 0.02
#: How often a process that waits hears of the one it waits for.
_NOTICE_S = 5.0
#: Of a command line, as much as fits a line of a terminal.
_COMMAND_LENGTH = 60

OnWait = Callable[[str], None]
"""Called at once and every few seconds with a description of what a measurement waits for."""


def machine_lock_path() -> Path:
    """Name the lock file that every measurement on this machine's own cores takes.

    In a folder of the user, where no other user can hold it or put something else in its place. A home folder may be
    shared by several machines, hence the host's name.
    """
    return platformdirs.user_state_path("netadapt") / f"measuring-{socket.gethostname()}.lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    command: str
    #: When it first took the lock, in seconds since the epoch; it releases it between measurements.
    since_s: float

    @classmethod
    def this_process(cls, since_s: float) -> Holder:
        """Describe this process."""
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        if len(command) > _COMMAND_LENGTH:
            command = f"{command[: _COMMAND_LENGTH - 4]} ..."
        return cls(os.getpid(), command, since_s)

    @classmethod
    def read(cls, content: bytes) -> Holder | None:
        """Read what a holder has written; None while it is being written."""
        try:
            fields: dict[str, Any] = json.loads(content)
            return cls(int(fields["pid"]), str(fields["command"])[:_COMMAND_LENGTH], float(fields["since_s"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        elapsed_s = max(0.0, time.time() - self.since_s)
        command = "".join(letter if letter.isprintable() else "?" for letter in self.command)
        elapsed = f"{elapsed_s:.0f} s" if elapsed_s < 90 else f"{elapsed_s / 60:.0f} min"
        return f"process {self.pid} ({command}), which began {elapsed} ago"


class MeasuringLock:
    """A lock between processes, held while measuring. Its holder may take it again; the system frees it on a kill.

    Processes that want it take turns: one that has just released it cannot take it again before one that waits,
    because a process holds a second lock, the queue, while it waits for the first.

    Args:
        path: file of the lock.
        on_wait: hears which process holds it, at once and every few seconds.

    """

    def __init__(self, path: Path, on_wait: OnWait | None = None) -> None:
        self.path = path
        self._on_wait = on_wait
        self._depth = 0
        self._since_s: float | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

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
            queue = _open(self.path.with_name(f"{self.path.name}-queue"))
            try:
                self._acquire(queue, descriptor)
                self._acquire(descriptor, descriptor)
            finally:
                os.close(queue)
            self._since_s = self._since_s or time.time()
            _describe(descriptor, self._since_s)
            self._depth = 1
            yield
        finally:
            self._depth = 0
            os.close(descriptor)

    def _acquire(self, descriptor: int, held: int) -> None:
        """Lock a file; `held` is the one in which the process that is waited for describes itself."""
        next_notice = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._on_wait and time.monotonic() >= next_notice:
                    self._on_wait(str(Holder.read(os.pread(held, 4096, 0)) or "another process"))
                    next_notice = time.monotonic() + _NOTICE_S
                # Polling, unlike a blocking flock, leaves Ctrl-C to Python.
                time.sleep(_POLL_S)
            else:
                return


def _describe(descriptor: int, since_s: float) -> None:
    """Say who holds the lock; a full disk is no reason not to measure."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.this_process(since_s))).encode(), 0)
    except OSError:
        return


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MeasurementError(
            f"cannot open the measuring lock {path}: {error.strerror}; make it writable, or set XDG_STATE_HOME to a"
            " folder that is"
        ) from error
