"""What a data set is: images and labels in memory, in three parts that never mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import DataError


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    ``images`` are uint8 [N, C, H, W]; ``labels`` are the targets [N] (int64 for classes; a task of one's own may use
    any array [N, ...]).
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]

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


@dataclass(frozen=True)
class Dataset:
    """A data set whose parts are kept apart: train to fit, hold-out to choose between proposals, test to report once.

    ``classes`` are the names of labels 0, 1, ...; ``mean`` and ``std`` (one a channel, for pixels scaled to 0..1)
    normalise the network's input.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    holdout: Split
    test: Split
