"""Which proposal of an iteration becomes the next network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from netadapt.errors import UnknownNameError
from netadapt.search.budget import Resources
from netadapt.search.outcome import Outcome, State

Selection = Literal["accuracy", "ratio"]
Rule = Callable[[Sequence[Outcome], State, Resources], Outcome]

SELECTIONS: tuple[str, ...] = get_args(Selection)


def selection_rule(name: str) -> Rule:
    """The rule of this name: `accuracy` (the paper) or `ratio` (as MobileNetV3's authors ran NetAdapt).

    Raises:
        UnknownNameError: there is no such rule.

    """
    rules: dict[str, Rule] = {"accuracy": most_accurate, "ratio": least_lost_per_saving}
    if name not in rules:
        raise UnknownNameError("selection rule", name, SELECTIONS)
    return rules[name]


def most_accurate(outcomes: Sequence[Outcome], state: State, original: Resources) -> Outcome:
    """The highest hold-out score; among equals the lowest hold-out loss, then the largest saving."""
    return max(outcomes, key=lambda outcome: (outcome.score, -outcome.loss, saving(outcome, state, original)))


def least_lost_per_saving(outcomes: Sequence[Outcome], state: State, original: Resources) -> Outcome:
    """The least score lost for what is saved (Howard et al., "Searching for MobileNetV3", section 4.2).

    Where the score rises, dividing by the saving would prefer the proposal that saves least; a gain is multiplied
    with it instead, so that of equal scores the larger saving always wins, and a gain always beats a loss.
    """

    def price(outcome: Outcome) -> tuple[float, float, float]:
        saved = saving(outcome, state, original)
        lost = state.score - outcome.score
        return (lost / saved if lost > 0 else lost * saved, -saved, outcome.loss)

    return min(outcomes, key=price)


def saving(outcome: Outcome, state: State, original: Resources) -> float:
    """What a proposal saves: the mean over the limited metrics, each relative to the original network."""
    shares = [(state.resources[metric] - outcome.proposal.resources[metric]) / original[metric] for metric in original]
    return sum(shares) / len(shares)
