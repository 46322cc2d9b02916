"""From arrays in memory to batches a network can eat: drawing, augmenting, normalising, each on a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from netadapt.train.data.arrays import fit_to_size
from netadapt.train.data.types import Dataset, Split
from netadapt.train.device import CPU


@dataclass(frozen=True)
class Augmentation:
    """Random change of training images: shift by up to ``padding`` pixels (zeros come in), mirror half of them."""

    padding: int = 2
    flip: bool = True


@dataclass(frozen=True)
class Normalisation:
    """Pixels 0..255 to normalised floats: ``pixel * scale + shift``, each [1, C, 1, 1] on the device to compute on."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, dataset: Dataset, device: str = CPU) -> Normalisation:
        """Return the normalisation by the data set's mean and standard deviation, to be done on ``device``."""
        mean = torch.tensor(dataset.mean).view(1, -1, 1, 1)
        std = torch.tensor(dataset.std).view(1, -1, 1, 1)
        return cls(scale=(1 / (255 * std)).to(device), shift=(-mean / std).to(device))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 [N, C, H, W], wherever it is, to float32 [N, C, H, W] in channels-last layout on the device."""
        device = self.scale.device
        images = torch.empty(pixels.shape, dtype=torch.float32, device=device, memory_format=torch.channels_last)
        # Moved as bytes, a quarter of what floats would be.
        return images.copy_(pixels.to(device)).mul_(self.scale).add_(self.shift)


def take(split: Split, chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
    """Return the ``chosen`` (numbers or a slice): uint8 images [B, C, H, W] at the split's size, targets [B, ...]."""
    images, targets = torch.from_numpy(split.images)[chosen], torch.from_numpy(split.labels)[chosen]
    return images if split.side is None else torch.from_numpy(fit_to_size(images.numpy(), split.side)), targets


def random_batches(
    split: Split, batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``steps`` batches (uint8 images [B, C, H, W], targets [B, ...]), each image once an epoch.

    A batch may span two epochs, so every batch is full: a rest of one image would break batch normalisation.
    """
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(split), generator=generator)])
        chosen, order = order[:batch_size], order[batch_size:]
        yield take(split, chosen)


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift and mirror each of the uint8 images [N, C, H, W] at random; same shape."""
    if augmentation.padding:
        pixels = _shift(pixels, augmentation.padding, generator)
    if augmentation.flip:
        mirrored = torch.rand(len(pixels), generator=generator) < 0.5
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    return pixels


def _shift(pixels: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    count, _, height, width = pixels.shape
    padded = functional.pad(pixels, (padding, padding, padding, padding))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [N, C, 2p + 1, 2p + 1, H, W]
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    return windows[torch.arange(count), :, top, left]
