"""What is seen of a case while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from netadapt import terminal
from netadapt.search.budget import Resources
from netadapt.search.observer import Observer
from netadapt.search.outcome import State
from netadapt.search.proposals import Proposal


class Lines(Observer):
    """Progress for a log: a line for each stage, with the time since the case began."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def stage(self, text: str) -> None:
        """Say what begins."""
        terminal.REMARKS.print(f"{time.monotonic() - self._begin:7.0f} s  {text}", soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        """Say it."""
        self.stage(f"note: {text}")

    def iteration(self, state: State, limits: Resources, proposals: Sequence[Proposal], iterations: int) -> None:
        """Say how far the search is."""
        self.stage(f"iteration {state.iteration + 1} of {iterations}")

    def finished(self, summary: Mapping[str, object]) -> None:
        """Nothing: the case goes on."""


@contextmanager
def shown(title: str) -> Iterator[Observer]:
    """Show what a case does on standard error: a bar on a terminal, else lines."""
    terminal.REMARKS.print(f"\n{title}", soft_wrap=True, markup=False)
    if not terminal.REMARKS.is_terminal:
        yield Lines()
        return
    with terminal.live_progress() as progress:
        yield progress
