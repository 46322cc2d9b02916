"""What a network is trained for: a task says how wrong a batch is and how good a network is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

Batches = Iterable[tuple[Tensor, Tensor]]
"""Normalised images [N, C, H, W] and targets [N, ...], batch by batch."""


@dataclass(frozen=True)
class Evaluation:
    """How good a network is on one split: ``score`` (higher is better), mean ``loss``, and the number of images."""

    score: float
    loss: float
    count: int


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
        correct = count = 0
        total = torch.zeros((), dtype=torch.float64)
        for images, labels in batches:
            logits = module(images)
            correct += int((logits.argmax(1) == labels).sum())
            total += functional.cross_entropy(logits, labels, reduction="sum").double()
            count += len(labels)
        return Evaluation(score=correct / count, loss=float(total) / count, count=count)
