"""Temporary folders of processes that may be killed at any instant."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


class ScratchFolder:
    """A temporary folder in `parent` that is locked while its process lives.

    Who is killed without notice cannot tidy up; the next one on the machine removes what was left.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        for other in parent.glob(f"netadapt-{os.getuid()}-*"):
            _remove_abandoned(other)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"netadapt-{os.getuid()}-", dir=parent))
            self._lock = _lock(self.path)
            if self._lock is not None:
                break

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_abandoned(folder: Path) -> None:
    lock = _lock(folder)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks the folder until it is closed; None if another process has it locked."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return descriptor
        except OSError:
            pass
        os.close(descriptor)
    return None
