"""Values that pass between the loop, the executors and the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netadapt.search.proposals import Proposal
from netadapt.train.data.types import Split


@dataclass(frozen=True)
class State:
    """The network after `iteration` accepted proposals: widths, predicted cost, hold-out score and loss, weights."""

    iteration: int
    widths: dict[str, int]
    resources: dict[str, float]
    score: float
    loss: float
    weights: Path


@dataclass(frozen=True)
class Look:
    """How far a proposal is taken: steps of short-term fine-tune in all, and hold-out images it is judged by.

    Without steps, batch normalisation's statistics are taken anew and nothing is trained. None are all images. `part`
    tells parts of divided work apart; None is work in one piece, or all parts put together. Each part of a fine-tune
    has batches of its own; a part of an evaluation has every `every`-th image, from number `part` on.
    """

    steps: int
    images: int | None = None
    part: int | None = None
    every: int | None = None

    def sample(self, split: Split) -> Split:
        """The images of a split that the look is at."""
        chosen = split if self.images is None else split.sample(self.images)
        return chosen if self.every is None else chosen.part(np.arange(self.part or 0, len(chosen), self.every))


@dataclass(frozen=True)
class Order:
    """A proposal to be taken to a `look`: narrow the source network, fine-tune for `steps` more, evaluate on hold-out.

    The source is the network of the iteration, or what an earlier look has made of the proposal. With equal orders an
    executor gives equal weights and scores, wherever and whenever it runs them.
    """

    proposal: Proposal
    look: Look
    source_widths: dict[str, int]
    source: Path
    target: Path
    seed: int
    steps: int

    @property
    def products(self) -> tuple[Path, ...]:
        """The files that carrying it out may leave, the weights first."""
        return (self.target, image_results_path(self.target))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "source": str(self.source), "target": str(self.target)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Order:
        """Read what `to_json` gave."""
        values = {"proposal": Proposal(**fields["proposal"]), "look": Look(**fields["look"])}
        paths = {"source": Path(fields["source"]), "target": Path(fields["target"])}
        return cls(**{**fields, **values, **paths})


@dataclass(frozen=True)
class Outcome:
    """A proposal with its weights and what they are worth at a look, or the reason why it was dropped.

    `score` and `loss` are those on the hold-out images of the look; `seconds` is the wall time spent in training and
    evaluation for it, `memory_bytes` the most memory that the worker had taken by then (0 where that is not known).
    """

    proposal: Proposal
    look: Look
    score: float
    loss: float
    seconds: float
    weights: Path
    dropped: str = ""
    memory_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain values; a dropped proposal has no score."""
        return {**asdict(self), "weights": str(self.weights)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        """Read what `to_json` gave."""
        values = {"proposal": Proposal(**fields["proposal"]), "look": Look(**fields["look"])}
        return cls(**{**fields, **values, "weights": Path(fields["weights"])})


def dropped(order: Order, reason: str, seconds: float = 0.0) -> Outcome:
    """The outcome of an order that could not be carried out."""
    return Outcome(order.proposal, order.look, 0.0, 0.0, seconds, order.target, dropped=reason)


def image_results_path(weights: Path) -> Path:
    """The file that says how good the network of these weights is on each hold-out image."""
    return weights.with_suffix(".images.safetensors")
