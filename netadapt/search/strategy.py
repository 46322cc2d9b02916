"""How a search spends its time: the paper's way, or a faster one made of ideas that can each be used alone."""

from __future__ import annotations

from dataclasses import dataclass

from netadapt.errors import BudgetError, UnknownNameError


@dataclass(frozen=True)
class Strategy:
    """Which ideas a search uses; with none of them it is Algorithm 1 of the paper.

    Attributes:
        racing: proposals advance in rounds of short-term steps, and those that are behind with confidence stop; groups
            that did worst sit the next race out.
        groups: each proposal saves one part in so many of the step, and as many of them are joined as reach it
            together, if their narrowing hardly interacts.
        adaptive_steps: steps grow while accuracy does not suffer, and shrink when it does or when no group can save its
            part.
        growing_slices: first looks take a part of the hold-out images only.
        parts: joint networks, and finalists of a race, are fine-tuned in so many parts at the same time, each with
            batches of its own and fewer steps, two thirds if there are two; their weights are averaged.

    Raises:
        BudgetError: fewer than one group an iteration, or than one part.

    """

    racing: bool = False
    groups: int = 1
    adaptive_steps: bool = False
    growing_slices: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise BudgetError(f"a strategy of {self.groups} groups an iteration; at least 1 is needed")
        if self.parts < 1:
            raise BudgetError(f"a strategy of fine-tunes in {self.parts} parts; at least 1 is needed")


PAPER = Strategy()
FAST = Strategy(racing=True, groups=4, adaptive_steps=True, growing_slices=True, parts=2)
STRATEGIES = {"paper": PAPER, "fast": FAST}


def find_strategy(name: str) -> Strategy:
    """The strategy of this name: `paper` or `fast`.

    Raises:
        UnknownNameError: there is no such strategy.

    """
    if name not in STRATEGIES:
        raise UnknownNameError("strategy", name, tuple(STRATEGIES))
    return STRATEGIES[name]
