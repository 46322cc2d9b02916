"""From what long work reports to what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netadapt.progress.status import Display, Status
from netadapt.progress.time_left import TimeLeft
from netadapt.search.budget import Resources
from netadapt.search.observer import Observer
from netadapt.search.outcome import Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.terminal import amount

_SEARCH = "search"


class LiveProgress(Observer):
    """Shows the work in hand with the time left, and a line for each iteration done."""

    def __init__(self, display: Display, time_left: TimeLeft) -> None:
        self._display = display
        self._time_left = time_left
        self._stage = self._label = ""
        self._counted = (0, 0)
        self._searching = False
        self._iteration = (0, 1)
        self._iterations_done = 0.0
        self._best: Outcome | None = None
        self._told_busy = False

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._display.say(text)

    def stage(self, text: str) -> None:
        """Begin something new."""
        self._searching = False
        self._begin(text)
        self._show(text)

    def expect(self, stages: Mapping[str, float | None]) -> None:
        """Count stages that come later into the time left."""
        self._time_left.expect(stages)

    def note(self, text: str) -> None:
        """Say it in a line that stays."""
        self.say(f"note: {text}")

    def busy(self, text: str) -> None:
        """Say it, once."""
        if not self._told_busy:
            self._told_busy = True
            self.note(text)

    def waiting(self, text: str) -> None:
        """Show for whom this process waits until something else is shown."""
        self._display.show(Status(f"{self._stage}, waiting", f"{self._label}, waiting for {text}", *self._counted))

    def analysed(self, group: str, done: int, total: int) -> None:
        """Show which channel group is tried."""
        self._advance(f"{self._label}, trying {group}", done, total)

    def measured(self, done: int, total: int) -> None:
        """Show how much of a measuring stage is done, or that the next step of a search is being measured for."""
        if self._searching:
            self._show(f"{self._label}, measuring {done} of {total}")
        else:
            self._advance(self._label, done, total)

    def iteration(self, state: State, limits: Resources, proposals: Sequence[Proposal], iterations: int) -> None:
        """Show how far the search is, in proposals."""
        if not self._searching:
            self._searching = True
            self._begin(_SEARCH)
        iterations = max(iterations, state.iteration + 1)
        self._label = f"iteration {state.iteration + 1} of {iterations}"
        self._iteration = (state.iteration, iterations)
        self._best = None
        self._counted = (state.iteration * len(proposals), iterations * len(proposals))
        self._advance_search(state.iteration)
        self._show(self._label)

    def proposal(self, outcome: Outcome, done: int, total: int) -> None:
        """Count a proposal and remember the best one."""
        if outcome.dropped:
            self.note(f"proposal {outcome.proposal.group} dropped: {outcome.dropped}")
        elif self._best is None or outcome.score > self._best.score:
            self._best = outcome
        best = f"{self._best.score:.2%} with {self._best.proposal.group}" if self._best else "none yet"
        iteration, iterations = self._iteration
        self._counted = (iteration * total + done, iterations * total)
        self._advance_search(iteration + done / total)
        self._show(f"{self._label}, proposal {done} of {total}, best {best}")

    def accepted(self, state: State, narrowed: Mapping[str, int]) -> None:
        """Leave a line for the iteration."""
        costs = ", ".join(f"{metric} {amount(metric, value)}" for metric, value in state.resources.items())
        changes = ", ".join(f"{group} to {width}" for group, width in narrowed.items())
        self.say(f"iteration {state.iteration}: {changes}, hold-out {state.score:.2%}, predicted {costs}")

    def counted(self, done: int, total: int) -> None:
        """Show how much of a stage is done."""
        self._advance(self._label, done, total)

    def trained(self, step: int, steps: int, loss: float) -> None:
        """Show how far a training is."""
        self._advance(f"{self._label}, loss {loss:.3f}", step, steps)

    def finished(self, summary: Mapping[str, object]) -> None:
        """Show nothing any more."""
        self._display.clear()

    def _begin(self, stage: str) -> None:
        self._stage = self._label = stage
        self._counted = (0, 0)
        self._iterations_done = 0.0
        self._time_left.begin(stage)

    def _advance(self, text: str, done: int, total: int) -> None:
        self._counted = (done, total)
        self._time_left.advance(done, total)
        self._show(text)

    def _advance_search(self, iterations_done: float) -> None:
        # Proposals may advance in several rounds, of which each begins to count anew.
        self._iterations_done = max(self._iterations_done, iterations_done)
        self._time_left.advance(self._iterations_done, self._iteration[1])

    def _show(self, text: str) -> None:
        self._display.show(Status(self._stage, text, *self._counted))
