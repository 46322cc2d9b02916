"""What is seen of a case while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from netadapt import terminal
from netadapt.progress import live_progress
from netadapt.search.budget import Resources
from netadapt.search.observer import Observer
from netadapt.search.outcome import State
from netadapt.search.proposals import Proposal

#: Shortest time between two lines that tell nothing but how far a stage is.
_PERIOD_S = 30.0


class Lines(Observer):
    """Progress for a log: a line for each stage and every half a minute, with the time since the case began."""

    def __init__(self) -> None:
        self._begin = self._told = time.monotonic()

    def stage(self, text: str) -> None:
        """Say what begins."""
        self._told = time.monotonic()
        terminal.REMARKS.print(f"{self._told - self._begin:7.0f} s  {text}", soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        """Say it."""
        self.stage(f"note: {text}")

    def iteration(self, state: State, limits: Resources, proposals: Sequence[Proposal], iterations: int) -> None:
        """Say how far the search is."""
        number = state.iteration + 1
        self.stage(f"iteration {number} of {max(number, iterations)}")

    def measured(self, done: int, total: int) -> None:
        """Say how many are done, now and then."""
        self._now_and_then(f"{done} of {total} done")

    def trained(self, step: int, steps: int, loss: float) -> None:
        """Say how far the training is, now and then."""
        self._now_and_then(f"step {step} of {steps}, loss {loss:.3f}")

    def _now_and_then(self, text: str) -> None:
        if time.monotonic() - self._told >= _PERIOD_S:
            self.stage(text)


@contextmanager
def shown(title: str) -> Iterator[Observer]:
    """Show what a case does on standard error: a bar on a terminal, else lines."""
    terminal.REMARKS.print(f"\n{title}", soft_wrap=True, markup=False)
    if not terminal.REMARKS.is_terminal:
        yield Lines()
        return
    with live_progress() as progress:
        yield progress
