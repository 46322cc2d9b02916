"""Have proposals made: turn them into orders for an executor, and journal what comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netadapt.search.executors import Executor
from netadapt.search.observer import Observer
from netadapt.search.outcome import Look, Order, Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.search.run import RunFolder


@dataclass(frozen=True)
class Request:
    """A proposal to be taken to a look, from its iteration's network or from what an `earlier` look has made of it."""

    proposal: Proposal
    look: Look
    earlier: Outcome | None = None


@dataclass(frozen=True)
class ProposalMaker:
    """Makes proposals through an executor; what an interrupted run had made already is not made again."""

    executor: Executor
    folder: RunFolder
    seed: int
    observer: Observer

    def make(
        self, proposals: Sequence[Proposal], state: State, look: Look, earlier: Mapping[str, Outcome] | None = None
    ) -> list[Outcome]:
        """Narrow, short-term fine-tune and evaluate all proposals, each as far as `look` says.

        Args:
            proposals: networks made from `state`.
            state: the network of the iteration.
            look: how far to take them.
            earlier: what an earlier look has made of a proposal, by its group; its fine-tune is continued.

        Returns the outcomes in the order of the proposals, so that no selection depends on which was made first.

        """
        before = earlier or {}
        return self.fulfil([Request(proposal, look, before.get(proposal.group)) for proposal in proposals], state)

    def fulfil(self, requests: Sequence[Request], state: State) -> list[Outcome]:
        """The same for any looks, at the same time; outcomes in the order of the requests."""
        made = {
            (request.proposal.group, request.look): self.folder.outcome(request.proposal, request.look)
            for request in requests
        }

        def take(outcome: Outcome) -> None:
            self.folder.record("proposal", outcome=outcome.to_json())
            made[outcome.proposal.group, outcome.look] = outcome
            self.observer.proposal(outcome, sum(map(bool, made.values())), len(requests))

        missing = [request for request in requests if made[request.proposal.group, request.look] is None]
        self.executor.run([self._order(request, state) for request in missing], take)
        return [outcome for outcome in made.values() if outcome is not None]

    def note(self, outcome: Outcome) -> None:
        """Journal an outcome that was put together from others; once, even if the search is resumed after it."""
        if self.folder.outcome(outcome.proposal, outcome.look) is None:
            self.folder.record("proposal", outcome=outcome.to_json())

    def _order(self, request: Request, state: State) -> Order:
        proposal, look, before = request.proposal, request.look, request.earlier
        return Order(
            proposal,
            look,
            source_widths=proposal.widths if before else state.widths,
            source=before.weights if before else state.weights,
            target=self.folder.proposal_weights(proposal, look),
            seed=self._seed_of(proposal, look, before),
            steps=look.steps - (before.look.steps if before else 0),
        )

    def _seed_of(self, proposal: Proposal, look: Look, before: Outcome | None) -> int:
        text = f"{self.seed} {proposal.iteration}"
        if look.steps:
            text += f" {proposal.group}"  # else all take their statistics from the same images: that is fairer
        if look.part is not None:
            text += f" part {look.part}"
        if before and before.look.steps:
            text += f" {before.look.steps}"  # not the batches that it has seen already
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
