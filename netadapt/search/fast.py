"""A search that reaches the budget in a fraction of the paper's time, out of ideas that can each be used alone.

- Racing: proposals advance in rounds, and those that are behind with confidence, on the same hold-out images, stop;
  groups that did worst sit the next race out.
- Several groups an iteration: the best proposals are joined, as many as the step asks for, if their joint loss is about
  what their losses alone add up to.
- Steps grow while accuracy does not suffer.
- The first looks take a slice of the hold-out images.
- The few fine-tunes that are left, and the evaluations after them, are divided among workers; weights are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from netadapt.errors import TaskError
from netadapt.search.algorithm import DeadEnd, Search, kept
from netadapt.search.budget import Resources
from netadapt.search.combining import combine, hardly_interact
from netadapt.search.image_results import interleaved, load_image_results, save_image_results
from netadapt.search.making import Request
from netadapt.search.metrics import Metric
from netadapt.search.outcome import Look, Outcome, State, image_results_path
from netadapt.search.pacing import AdaptiveSteps
from netadapt.search.proposals import Proposal, narrowed
from netadapt.search.racing import behind, looks, tied
from netadapt.search.selection import saving
from netadapt.search.strategy import PAPER, Strategy
from netadapt.train.task import ImageResults
from netadapt.zoo.weight_files import average_weights

#: A step of less than this part of what was asked for would make too many iterations.
_SMALLEST_PART = 0.125


@dataclass(frozen=True, kw_only=True)
class FastSearch(Search):
    """A search by `strategy`; see there which ideas it may use."""

    strategy: Strategy
    holdout_images: int

    def limits(self, state: State) -> dict[str, float]:
        """What the network of the next iteration may cost; with adaptive steps, by what the last ones did."""
        if not self.strategy.adaptive_steps:
            return super().limits(state)
        found = [load_image_results(self.folder.image_results(index)) for index in range(state.iteration + 1)]
        results = [result for result in found if result is not None]
        history = pairwise(results) if len(results) == len(found) else ()
        return AdaptiveSteps(self.schedule).limits(state.resources, history)

    def foreseen(self, limits: Resources, state: State) -> int:
        """The iterations so far, and as many steps of the present length as are left to the budget."""
        if not self.strategy.adaptive_steps:
            return super().foreseen(limits, state)
        left = [
            math.ceil((state.resources[metric] - budget) / (state.resources[metric] - limits[metric]))
            for metric, budget in self.schedule.budget.items()
            if limits[metric] < state.resources[metric]
        ]
        return state.iteration + max(left, default=1)

    def proposals(self, limits: Resources, state: State) -> list[Proposal]:
        """A proposal for each group that saves its part of the step, but for those that rest.

        Raises:
            DeadEnd: there is none.

        """
        found = self._saving(1 / self.strategy.groups, limits, state)
        if not self.strategy.racing:
            return found
        resting = self._resting(state)
        racing = [proposal for proposal in found if proposal.group not in resting]
        # Fewer could not reach the step together.
        return racing if len(racing) >= self.strategy.groups else found

    def _saving(self, part: float, limits: Resources, state: State) -> list[Proposal]:
        """A proposal for each group that saves a part of the step; with adaptive steps a smaller part, if none can."""
        cost = {
            metric: state.resources[metric] - (state.resources[metric] - limits[metric]) * part for metric in limits
        }
        try:
            return super().proposals(cost, state)
        except DeadEnd:
            smaller = part / 2
            if not self.strategy.adaptive_steps or smaller * self.strategy.groups < _SMALLEST_PART:
                raise
            return self._saving(smaller, limits, state)

    def _resting(self, state: State) -> set[str]:
        """The groups that did worst in the last race, up to half of them. Whoever rested then is not among them."""
        raced = {
            outcome.proposal.group: outcome.loss
            for outcome in self.folder.outcomes(state.iteration - 1)
            if outcome.look == self._looks[0] and outcome.proposal.group in self.allowed and not outcome.dropped
        }
        worst_first = sorted(raced, key=lambda group: (-raced[group], group))
        return set(worst_first[: len(raced) // 2])

    def best(self, proposals: Sequence[Proposal], limits: Resources, state: State) -> Outcome:
        """Race the proposals, join the best of them if several groups may be narrowed, and fine-tune what is left.

        Raises:
            DeadEnd: all were dropped.

        """
        finalists = self._race(proposals, state)
        if self.strategy.groups > 1:
            finalists = [self._joined(finalists, limits, state)]
        return self.select(self._to_the_end(finalists, state), state, self.schedule.original)

    # --- racing ---

    def _race(self, proposals: Sequence[Proposal], state: State) -> list[Outcome]:
        """Those that are left at the end, the lowest loss first, all at the same look."""
        outcomes: list[Outcome] = []
        for look in self._looks:
            earlier = {outcome.proposal.group: outcome for outcome in outcomes}
            racing = [proposal for proposal in proposals if not outcomes or proposal.group in earlier]
            outcomes = self._in_front(kept(self.maker.make(racing, state, look, earlier)), state)
            if self._is_over(outcomes):
                # Of those that are tied, the one of lowest loss; of several groups, all may be joined.
                return outcomes if self.strategy.groups > 1 else outcomes[:1]
        return outcomes

    @cached_property
    def _looks(self) -> list[Look]:
        return looks(
            self.short_term_steps,
            self.holdout_images,
            racing=self.strategy.racing,
            growing=self.strategy.growing_slices,
        )

    def _in_front(self, outcomes: Sequence[Outcome], state: State) -> list[Outcome]:
        results = _image_results(outcomes)
        slow = behind(results, self.strategy.groups) if results else set()
        front = [outcome for outcome in outcomes if outcome.proposal.group not in slow]
        return sorted(front, key=lambda outcome: (outcome.loss, -saving(outcome, state, self.schedule.original)))

    def _is_over(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether more steps or images would decide nothing."""
        if not self.strategy.racing:
            return False
        # Which of them are joined is seen from what they lose; what the joint network is worth, from itself.
        if self.strategy.groups > 1 or len(outcomes) == 1:
            return True
        results = _image_results(outcomes)
        return bool(results) and tied(results)

    # --- several groups ---

    def _joined(self, ranked: Sequence[Outcome], limits: Resources, state: State) -> Outcome:
        """The better of two joint networks, by loss and by loss for what is saved, at the look of their parts."""
        base = self._results_of(state, ranked[0].look)
        before = base.loss if base else state.loss
        by_price = sorted(ranked, key=lambda outcome: self._price(outcome, before, state))
        self._look_at_first_joints((ranked, by_price), limits, state)
        joints = [
            joint for order in (ranked, by_price) if (joint := self._joint(order, base, limits, state)) is not None
        ]
        if not joints:
            raise DeadEnd(f"all joint networks of iteration {state.iteration} were dropped")
        return self._in_front(joints, state)[0]

    def _look_at_first_joints(self, orders: Sequence[Sequence[Outcome]], limits: Resources, state: State) -> None:
        """Have what is looked at first, and mostly at last, made at the same time."""
        proposals = [self._combined(order, limits, state) for order in orders]
        joints = {proposal.group: proposal for proposal in proposals if proposal.group not in self.allowed}
        self.maker.make(list(joints.values()), state, orders[0][0].look)

    def _combined(self, ranked: Sequence[Outcome], limits: Resources, state: State) -> Proposal:
        return combine([outcome.proposal for outcome in ranked], state, limits, self._limited, self.allowed)

    def _joint(
        self, ranked: Sequence[Outcome], base: ImageResults | None, limits: Resources, state: State
    ) -> Outcome | None:
        """The first of them together, fewer if they interact; None if what they make is dropped."""
        count = len(ranked)
        while True:
            proposal = self._combined(ranked[:count], limits, state)
            count = len(narrowed(state.widths, proposal.widths))
            if proposal == ranked[0].proposal:
                return ranked[0]
            (joint,) = self.maker.make([proposal], state, ranked[0].look)
            if joint.dropped or count == 1 or self._hardly_interact(joint, ranked[:count], base):
                return None if joint.dropped else joint
            count -= 1

    def _hardly_interact(self, joint: Outcome, parts: Sequence[Outcome], base: ImageResults | None) -> bool:
        """Whether the parts may be joined; a task that tells nothing of single images says nothing against it."""
        results = _image_results([joint, *parts])
        if base is None or not results:
            return True
        return hardly_interact(base, results.pop(joint.proposal.group), list(results.values()))

    def _price(self, outcome: Outcome, before: float, state: State) -> float:
        """Loss for what is saved."""
        lost = outcome.loss - before
        saved = saving(outcome, state, self.schedule.original)
        return lost / saved if lost > 0 else lost * saved

    def _results_of(self, state: State, look: Look) -> ImageResults | None:
        found = load_image_results(self.folder.image_results(state.iteration))
        return found.sample(look.images) if found and look.images is not None else found

    @cached_property
    def _limited(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.name in self.schedule.budget]

    # --- the end ---

    def _to_the_end(self, finalists: Sequence[Outcome], state: State) -> list[Outcome]:
        """Finalists after the whole short-term fine-tune, on all hold-out images."""
        last = Look(self.short_term_steps)
        done = [outcome for outcome in finalists if outcome.look == last]
        waiting = [outcome for outcome in finalists if outcome.look != last]
        if self.strategy.parts == 1 or last.steps < 2:
            return kept([*done, *self._whole(waiting, last, state)])
        averages = self._averaged(waiting, last, state)
        failed = [average for average in averages if average.dropped]
        sound = [average for average in averages if not average.dropped]
        return kept([*done, *failed, *self._judged(sound, last, state)])

    def _whole(self, outcomes: Sequence[Outcome], last: Look, state: State) -> list[Outcome]:
        """Outcomes taken to the last look in one piece: by the steps that are left, if any, and an evaluation."""
        return self.maker.fulfil([Request(outcome.proposal, last, outcome) for outcome in outcomes], state)

    def _averaged(self, outcomes: Sequence[Outcome], last: Look, state: State) -> list[Outcome]:
        """The averages of their fine-tunes in parts, still to be evaluated; dropped if all parts were.

        From weights that are this close, fine-tunes with different batches end in one basin, and their average is as
        good as one fine-tune of as many steps (McMahan et al., "FedAvg", 2017; Wortsman et al., "Model soups", 2022).
        """
        requests = [Request(outcome.proposal, look, outcome) for outcome in outcomes for look in self._parts(outcome)]
        made = self.maker.fulfil(requests, state)
        averages = []
        for outcome in outcomes:
            parts = _of(outcome, made)
            sound = [part for part in parts if not part.dropped]
            averages.append(self._average(sound, last) if sound else parts[0])
        return averages

    def _parts(self, outcome: Outcome) -> list[Look]:
        """Looks at the parts: no more images than show whether a part is sound.

        Two parts take two thirds of the steps each, not half: a search of few iterations trains its networks less on
        the way than one of many.
        """
        left = self.short_term_steps - outcome.look.steps
        steps = outcome.look.steps + math.ceil(left * 2 / (self.strategy.parts + 1))
        return [Look(steps, self._looks[0].images, part) for part in range(self.strategy.parts)]

    def _average(self, parts: Sequence[Outcome], last: Look) -> Outcome:
        target = self.folder.proposal_weights(parts[0].proposal, last)
        average_weights([part.weights for part in parts], target)
        return replace(parts[0], look=last, weights=target)

    def _judged(self, averages: Sequence[Outcome], last: Look, state: State) -> list[Outcome]:
        """What they are worth on all hold-out images, each part of the images looked at by another worker."""
        every = self.strategy.parts
        if self.holdout_images < every or self._results_of(state, last) is None:
            return self._whole(averages, last, state)
        requests = [
            Request(average.proposal, replace(last, part=part, every=every), average)
            for average in averages
            for part in range(every)
        ]
        made = self.maker.fulfil(requests, state)
        return [self._put_together(average, _of(average, made)) for average in averages]

    def _put_together(self, average: Outcome, parts: Sequence[Outcome]) -> Outcome:
        for part in parts:
            if part.dropped:
                return part
        results = interleaved([_told(part) for part in parts])
        save_image_results(results, image_results_path(average.weights))
        outcome = replace(average, score=results.score, loss=results.loss, seconds=0.0)  # the parts have the time
        self.maker.note(outcome)
        return outcome


def make_search(strategy: Strategy, holdout_images: int, **parts: Any) -> Search:
    """The search that follows a strategy, out of the parts that `Search` has."""
    if strategy == PAPER:
        return Search(**parts)
    return FastSearch(strategy=strategy, holdout_images=holdout_images, **parts)


def _image_results(outcomes: Sequence[Outcome]) -> dict[str, ImageResults]:
    """What is known of each hold-out image, by group; nothing if it is not known for all."""
    found = {outcome.proposal.group: load_image_results(image_results_path(outcome.weights)) for outcome in outcomes}
    return {group: results for group, results in found.items() if results is not None} if all(found.values()) else {}


def _told(outcome: Outcome) -> ImageResults:
    """What the task told of each image.

    Raises:
        TaskError: it told nothing, though it did of the network before.

    """
    found = load_image_results(image_results_path(outcome.weights))
    if found is None:
        raise TaskError(
            f"the task told how good the network of iteration {outcome.proposal.iteration} is on each hold-out image, "
            f"but not how good {outcome.proposal.group} is; Evaluation.images is given always or never"
        )
    return found


def _of(outcome: Outcome, made: Sequence[Outcome]) -> list[Outcome]:
    """What was made of the same proposal."""
    return [other for other in made if other.proposal == outcome.proposal]
