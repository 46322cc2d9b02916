"""Values that pass between the loop, the executors and the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netadapt.search.proposals import Proposal


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
class Order:
    """A proposal to be made: narrow the source network in one group, fine-tune briefly, evaluate on the hold-out.

    With equal orders an executor gives equal weights and scores, wherever and whenever it runs them.
    """

    proposal: Proposal
    source_widths: dict[str, int]
    source: Path
    target: Path
    seed: int

    @property
    def products(self) -> tuple[Path, ...]:
        """The files that carrying it out may leave, the weights first."""
        return (self.target,)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "source": str(self.source), "target": str(self.target)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Order:
        """Read what `to_json` gave."""
        proposal = Proposal(**fields["proposal"])
        paths = {"source": Path(fields["source"]), "target": Path(fields["target"])}
        return cls(**{**fields, **paths, "proposal": proposal})


@dataclass(frozen=True)
class Outcome:
    """A proposal with its weights and what they are worth, or the reason why it was dropped.

    `score` and `loss` are those on the hold-out split; `seconds` is the wall time spent in training and evaluation.
    """

    proposal: Proposal
    score: float
    loss: float
    seconds: float
    weights: Path
    dropped: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values; a dropped proposal has no score."""
        return {**asdict(self), "weights": str(self.weights)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        """Read what `to_json` gave."""
        return cls(**{**fields, "proposal": Proposal(**fields["proposal"]), "weights": Path(fields["weights"])})


def dropped(order: Order, reason: str, seconds: float = 0.0) -> Outcome:
    """The outcome of an order that could not be carried out."""
    return Outcome(order.proposal, 0.0, 0.0, seconds, order.target, dropped=reason)
