"""The state of the work in hand, and the protocol of what shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Status:
    """The stage of the work and how much of it is done; `total` is 0 where that cannot be counted."""

    stage: str
    text: str
    done: int = 0
    total: int = 0


class Display(Protocol):
    """Shows the newest status, and lines that stay."""

    def show(self, status: Status) -> None:
        """Show a status in place of the one before."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def clear(self) -> None:
        """Show no status any more."""
