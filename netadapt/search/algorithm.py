"""Algorithm 1 of NetAdapt (Yang et al., ECCV 2018, arXiv 1804.03230)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netadapt.search.budget import Schedule
from netadapt.search.executors import Executor
from netadapt.search.metrics import Metric
from netadapt.search.observer import Observer
from netadapt.search.outcome import Order, Outcome, State
from netadapt.search.proposals import Proposal, predict, propose
from netadapt.search.run import RunFolder
from netadapt.search.selection import Rule


@dataclass(frozen=True)
class Search:
    """A search from `original` down to the schedule's budget; `run` makes it, or goes on where it was stopped.

    `keep` is called with each accepted network before the journal says that it was accepted.
    """

    original: State
    schedule: Schedule
    metrics: Sequence[Metric]
    allowed: Mapping[str, Sequence[int]]
    select: Rule
    executor: Executor
    folder: RunFolder
    seed: int
    keep: Callable[[State], None]
    observer: Observer

    def run(self) -> tuple[State, str]:
        """The last network, and why the search ended above its budget if it did.

        Raises:
            MeasurementError, TableError, RunError: measuring or writing failed; the run can be resumed.

        """
        state = self.folder.state(self.original)
        while not self.schedule.is_met(state.resources):
            limits = self.schedule.limits(state.iteration, state.resources)
            proposals = propose(state.iteration, state.widths, limits, self.metrics, self.allowed)
            if not proposals:
                return state, (
                    f"no group can be narrowed enough for the next step ({_amounts(limits)}); "
                    "more iterations make smaller steps"
                )
            self.observer.iteration(state, limits, proposals, self.schedule.pace.iterations)
            outcomes = self._make(proposals, state)
            candidates = [outcome for outcome in outcomes if not outcome.dropped]
            if not candidates:
                return state, f"all proposals of iteration {state.iteration} were dropped: {outcomes[0].dropped}"
            state = self._accept(self.select(candidates, state, self.schedule.original), state)
        return state, ""

    def _make(self, proposals: Sequence[Proposal], state: State) -> list[Outcome]:
        """Short-term fine-tune and evaluate all proposals, but for those that an interrupted run had made already.

        They come back in the order of the proposals, so that the selection does not depend on who was first.
        """
        made = {proposal.group: self.folder.outcome(proposal) for proposal in proposals}

        def take(outcome: Outcome) -> None:
            self.folder.record("proposal", outcome=outcome.to_json())
            made[outcome.proposal.group] = outcome
            self.observer.proposal(outcome, sum(map(bool, made.values())), len(proposals))

        self.executor.run([self._order(p, state) for p in proposals if made[p.group] is None], take)
        return [outcome for outcome in made.values() if outcome is not None]

    def _order(self, proposal: Proposal, state: State) -> Order:
        target = self.folder.proposal_weights(proposal)
        return Order(proposal, state.widths, state.weights, target, self._seed_of(proposal))

    def _seed_of(self, proposal: Proposal) -> int:
        text = f"{self.seed} {proposal.iteration} {proposal.group}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def _accept(self, best: Outcome, state: State) -> State:
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
        )
        self.folder.clear_proposals()
        self.observer.accepted(accepted, proposal.group)
        return accepted


def _amounts(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{metric} <= {limit:,.0f}" for metric, limit in limits.items())
