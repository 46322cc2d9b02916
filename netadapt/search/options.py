"""What a search is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from netadapt.search.budget import Budget, Pace
from netadapt.search.selection import Selection
from netadapt.search.strategy import PAPER, Strategy
from netadapt.search.trainer import Training
from netadapt.train.device import CPU
from netadapt.train.loop import TrainingOptions

#: Fine-tunes keep what the network has learned: a higher rate loses accuracy that so few steps do not bring back.
SHORT_TERM = Training(100, TrainingOptions(lr=0.005))
LONG_TERM = Training(1000, TrainingOptions(lr=0.005))


Predicted = Literal["limited", "all"]
"""Which of a platform's metrics are predicted: those that a budget limits, or all. MACs and parameters always are."""


@dataclass(frozen=True)
class Options:
    """How to search; `short_term` is the fine-tune of each proposal, `long_term` that of the last network.

    `predicted` says which metrics every network on the way is predicted in, and layers are measured for.
    `workers` is what `netadapt.search.executors.workers.Workers.parse` reads, `device` what
    `netadapt.train.device.training_device` gives. With `preprocessing_in_model` the exported models normalise their
    input themselves; what is measured is the network alone, always.
    """

    budgets: tuple[Budget, ...]
    selection: Selection = "accuracy"
    pace: Pace = field(default_factory=Pace)
    short_term: Training = SHORT_TERM
    long_term: Training = LONG_TERM
    strategy: Strategy = PAPER
    workers: int | str = 1
    device: str = CPU
    seed: int = 0
    correction: bool = True
    preprocessing_in_model: bool = False
    predicted: Predicted = "all"
