"""What a network is trained for: a task says how wrong a batch is and how good a network is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from netadapt.train.data.types import sample_positions

Batches = Iterable[tuple[Tensor, Tensor]]
"""Normalised images [N, C, H, W] and targets [N, ...], batch by batch."""


@dataclass(frozen=True)
class ImageResults:
    """How good a network is on each image of a split, in the order of the images: float32 [N] each."""

    scores: Tensor
    losses: Tensor

    @property
    def score(self) -> float:
        """Return the mean score."""
        return float(self.scores.double().mean())

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return float(self.losses.double().mean())

    def sample(self, count: int) -> ImageResults:
        """Return the results of the images that `Split.sample` takes of the whole split, in its order."""
        chosen = torch.from_numpy(sample_positions(len(self.scores), count))
        return ImageResults(self.scores[chosen], self.losses[chosen])


@dataclass(frozen=True)
class Evaluation:
    """How good a network is on one split: ``score`` (higher is better), mean ``loss``, and the number of images.

    ``images`` tells it for each image, so that two networks can be compared on the same ones; a task for which that
    makes no sense always leaves it None. Where it is told, ``score`` and ``loss`` are the means over all images.
    """

    score: float
    loss: float
    count: int
    images: ImageResults | None = field(default=None, compare=False, repr=False)

    @property
    def totals(self) -> dict[str, float]:
        """What is known of all images together."""
        return {"score": self.score, "loss": self.loss, "count": self.count}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        images = self.images and {"scores": self.images.scores.tolist(), "losses": self.images.losses.tolist()}
        return {**self.totals, "images": images}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave, to the last bit."""
        images = fields["images"] and ImageResults(*(torch.tensor(fields["images"][k]) for k in ("scores", "losses")))
        return cls(fields["score"], fields["loss"], fields["count"], images)


class Task(Protocol):
    """What to train for. Replace it to adapt something else than a classifier."""

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar training loss of one batch: images float [N, C, H, W], targets [N, ...]."""

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        """Return score and loss over all batches; the module is in eval mode and no gradient is recorded."""


@dataclass(frozen=True)
class Classification:
    """One label an image: cross-entropy; the score is top-1 accuracy, 0 to 1."""

    label_smoothing: float = 0.0

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean (smoothed) cross-entropy of images [N, C, H, W] with labels int64 [N]."""
        return functional.cross_entropy(module(images), targets, label_smoothing=self.label_smoothing)

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        """Return top-1 accuracy and mean unsmoothed cross-entropy over all batches."""
        scores, losses = [], []
        total = torch.zeros((), dtype=torch.float64)
        for images, labels in batches:
            logits = module(images)
            scores.append((logits.argmax(1) == labels).float())
            losses.append(functional.cross_entropy(logits, labels, reduction="none"))
            total += functional.cross_entropy(logits, labels, reduction="sum").double().cpu()
        each = ImageResults(torch.cat(scores).cpu(), torch.cat(losses).cpu())
        count = len(each.scores)
        return Evaluation(int(each.scores.sum()) / count, float(total) / count, count, each)
