"""What a search tells while it runs. Override what you want to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netadapt.search.budget import Resources
from netadapt.search.outcome import Outcome, State
from netadapt.search.proposals import Proposal

#: Stages of an adaptation, in their order; the search comes before the last two.
ANALYSIS = "finding channel groups"
CALIBRATION = "measuring the original network"
EVALUATION = "evaluating the original network"
FINE_TUNE = "long-term fine-tune"
CONCLUSION = "testing and measuring original and adapted network"


class Observer:
    """Hears of everything and does nothing."""

    def stage(self, text: str) -> None:
        """Something that takes a while begins."""

    def expect(self, stages: Mapping[str, float | None]) -> None:
        """These stages come later, and take about so many seconds each; None where that is not known."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def waiting(self, text: str) -> None:
        """Another process is measuring; called at once and every few seconds until it is this one's turn."""

    def busy(self, text: str) -> None:
        """The machine is too busy to measure well, and what that means; said again as often as it is noticed."""

    def analysed(self, group: str, done: int, total: int) -> None:
        """A channel group is about to be tried, after `done` others."""

    def measured(self, done: int, total: int) -> None:
        """One more workload or network has been measured."""

    def iteration(self, state: State, limits: Resources, proposals: Sequence[Proposal], iterations: int) -> None:
        """Proposals of an iteration are about to be made; `iterations` is how many the schedule foresees."""

    def proposal(self, outcome: Outcome, done: int, total: int) -> None:
        """A proposal has been made or dropped."""

    def accepted(self, state: State, narrowed: Mapping[str, int]) -> None:
        """The best proposal has become the next network, narrower in these groups, which now have these widths."""

    def trained(self, step: int, steps: int, loss: float) -> None:
        """One more step of the long-term fine-tune."""

    def finished(self, summary: Mapping[str, object]) -> None:
        """All is done."""
