"""Wait for something to read."""

from __future__ import annotations

import select
from typing import Protocol


class HasDescriptor(Protocol):
    """A socket, a pipe, or another open file."""

    def fileno(self) -> int:
        """Its number in this process."""


def readable(source: HasDescriptor, limit_s: float) -> bool:
    """Whether something can be read, or the other side has gone, within a time limit."""
    # Not select: it fails where this process has more than 1,023 files open.
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    return bool(poll.poll(1000 * max(0.0, limit_s)))
