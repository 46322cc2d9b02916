"""Algorithm 1 of NetAdapt (Yang et al., ECCV 2018, arXiv 1804.03230)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netadapt.search.budget import Resources, Schedule
from netadapt.search.making import ProposalMaker
from netadapt.search.metrics import Metric
from netadapt.search.observer import Observer
from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal, narrowed, predict, propose
from netadapt.search.run import RunFolder
from netadapt.search.selection import Rule


class DeadEnd(Exception):  # noqa: N818 - the end of a search, not a mistake
    """The search ends above its budget; the message says why."""


@dataclass(frozen=True)
class Search:
    """A search from `original` down to the schedule's budget; `run` makes it, or goes on where it was stopped.

    Every iteration makes one proposal for each group, in full, and keeps the best: the paper's way. Other strategies
    override `limits`, `proposals` and `best`. `short_term_steps` is the length of a proposal's fine-tune. `keep` is
    called with each accepted network before the journal says that it was accepted.
    """

    original: State
    schedule: Schedule
    metrics: Sequence[Metric]
    allowed: Mapping[str, Sequence[int]]
    select: Rule
    maker: ProposalMaker
    folder: RunFolder
    short_term_steps: int
    keep: Callable[[State], None]
    observer: Observer

    def run(self) -> tuple[State, str]:
        """The last network, and why the search ended above its budget if it did.

        Raises:
            MeasurementError, TableError, RunError: measuring or writing failed; the run can be resumed.

        """
        state = self.folder.state(self.original)
        while not self.schedule.is_met(state.resources):
            started = time.perf_counter()
            limits = self.limits(state)
            try:
                proposals = self.proposals(limits, state)
                self.observer.iteration(state, limits, proposals, self.foreseen(limits, state))
                state = self._accept(self.best(proposals, limits, state), state, started)
            except DeadEnd as end:
                return state, str(end)
        return state, ""

    def limits(self, state: State) -> dict[str, float]:
        """What the network of the next iteration may cost."""
        return self.schedule.limits(state.iteration, state.resources)

    def foreseen(self, limits: Resources, state: State) -> int:
        """The number of iterations that the whole search is expected to take."""
        return self.schedule.pace.iterations

    def proposals(self, limits: Resources, state: State) -> list[Proposal]:
        """A proposal for each group that meets the limits.

        Raises:
            DeadEnd: there is none.

        """
        proposals = propose(state.iteration, state.widths, limits, self.metrics, self.allowed)
        if not proposals:
            raise DeadEnd(
                f"no group can be narrowed enough for the next step ({_amounts(limits)}); "
                "more iterations make smaller steps"
            )
        return proposals

    def best(self, proposals: Sequence[Proposal], limits: Resources, state: State) -> Outcome:
        """Make the proposals and choose the one that becomes the next network.

        Raises:
            DeadEnd: all were dropped.

        """
        outcomes = self.maker.make(proposals, state, Look(self.short_term_steps))
        return self.select(kept(outcomes), state, self.schedule.original)

    def _accept(self, best: Outcome, state: State, started: float) -> State:
        iteration = state.iteration + 1
        proposal = best.proposal
        weights = self.folder.keep_weights(best, iteration)
        resources = predict(self.metrics, proposal.widths)
        accepted = State(iteration, proposal.widths, resources, best.score, best.loss, weights)
        self.keep(accepted)
        self.folder.record(
            "accepted",
            iteration=iteration,
            group=proposal.group,
            widths=proposal.widths,
            resources=resources,
            score=best.score,
            loss=best.loss,
            wall_seconds=time.perf_counter() - started,
        )
        self.folder.clear_proposals()
        self.observer.accepted(accepted, narrowed(state.widths, proposal.widths))
        return accepted


def kept(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that were not dropped.

    Raises:
        DeadEnd: all were.

    """
    candidates = [outcome for outcome in outcomes if not outcome.dropped]
    if not candidates:
        raise DeadEnd(
            f"all proposals of iteration {outcomes[0].proposal.iteration} were dropped: {outcomes[0].dropped}"
        )
    return candidates


def _amounts(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{metric} <= {limit:,.0f}" for metric, limit in limits.items())
