"""What a data set is: images and labels in memory, in three parts that never mix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import DataError

_SAMPLE_SEED = 0


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    ``images`` are uint8 [N, C, H, W]; ``labels`` are the targets [N] (int64 for classes; a task of one's own may use
    any array [N, ...]). With a ``side`` (pixels) each batch is resized to that height and width when it is taken, for
    images that would take too much memory if all were kept at that size.
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]
    side: int | None = None

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            DataError: images are not uint8 [N, C, H, W], there are none, or their number is not that of the labels.

        """
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DataError(f"images must be uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}")
        if len(self.images) == 0:
            raise DataError("a split without images; training, hold-out and test each need at least one")
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels; give one label an image")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def sample(self, count: int) -> Split:
        """Return ``count`` of its images, drawn once and for all: a larger sample has those of every smaller one first.

        All of them, as they are, if there are no more.
        """
        if count >= len(self):
            return self
        return self.part(sample_positions(len(self), count))

    def part(self, chosen: NDArray[Any]) -> Split:
        """Return the ``chosen`` images, given by their numbers or by a mask [N]."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images as a network gets them."""
        height, width = self.images.shape[2:]
        return (self.side, self.side) if self.side else (height, width)


@dataclass(frozen=True)
class Dataset:
    """A data set whose parts are kept apart: train to fit, hold-out to choose between proposals, test to report once.

    ``classes`` are the names of labels 0, 1, ...; ``mean`` and ``std`` (one a channel, for pixels scaled to 0..1)
    normalise the network's input; ``given_normalisation`` says that a user gave them in place of the data set's own.
    Three channels are red, green and blue, in this order. ``resize`` says how images were brought to the network's
    size (``crop``, ``pad``, ``squash``, see `netadapt.train.data.resizing`, or ``border``: black pixels around), None
    where the data set does not say. ``remarks`` are what a user should know about how it was loaded.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    holdout: Split
    test: Split
    resize: str | None = None
    remarks: tuple[str, ...] = ()
    given_normalisation: bool = False


def sample_positions(total: int, count: int) -> NDArray[np.intp]:
    """Return where the images of `Split.sample` stand in a split of ``total`` images."""
    if count >= total:
        return np.arange(total)
    return np.random.default_rng(_SAMPLE_SEED).permutation(total)[:count]
