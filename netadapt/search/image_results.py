"""Two networks on the same hold-out images: what is kept of each image, and how sure their difference is.

Paired, the difference between two proposals is far better known than either accuracy: of 5,000 images, most are
right or wrong for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from netadapt.errors import RunError
from netadapt.files import write_atomically
from netadapt.train.task import ImageResults

#: Standard errors beyond which a difference is no accident: 99.5 % on one side, as many pairs are looked at.
_CONFIDENT = 2.58


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and its standard error."""

    mean: float
    error: float

    @property
    def is_positive(self) -> bool:
        """Whether it is above 0 with confidence."""
        return self.mean > _CONFIDENT * self.error

    def exceeds(self, amount: float) -> bool:
        """Whether it is above `amount` with confidence."""
        return Difference(self.mean - amount, self.error).is_positive


def difference(ours: Tensor, theirs: Tensor) -> Difference:
    """How much larger our values, one for each image, are than theirs on the same images: both [N]."""
    pairs = (ours - theirs).double()
    if len(pairs) < 2:
        return Difference(float(pairs.sum()), math.inf)
    return Difference(float(pairs.mean()), float(pairs.std()) / math.sqrt(len(pairs)))


def interleaved(parts: Sequence[ImageResults]) -> ImageResults:
    """The results of all images, of which each part has every ``len(parts)``-th, beginning with its own number."""
    count = sum(len(part.scores) for part in parts)
    whole = ImageResults(torch.empty(count), torch.empty(count))
    for number, part in enumerate(parts):
        whole.scores[number :: len(parts)] = part.scores
        whole.losses[number :: len(parts)] = part.losses
    return whole


def save_image_results(results: ImageResults, path: Path) -> None:
    """Write them to `path` in one step; the same results, the same bytes.

    Raises:
        RunError: the file cannot be written.

    """
    content = safetensors.numpy.save({"scores": results.scores.numpy(), "losses": results.losses.numpy()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error}); resume when it can") from error


def load_image_results(path: Path) -> ImageResults | None:
    """Read them; None where there are none, as for a task that has no score for each image.

    Raises:
        RunError: the file is damaged.

    """
    if not path.exists():
        return None
    try:
        found = safetensors.numpy.load_file(path)
        scores, losses = (torch.from_numpy(found[name]) for name in ("scores", "losses"))
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: damaged ({error}); remove it and resume") from error
    for values in (scores, losses):
        if not values.is_floating_point() or values.dim() != 1 or len(values) != len(scores):
            raise RunError(f"{path}: damaged (not one score and one loss for each image); remove it and resume")
        if not values.isfinite().all():
            raise RunError(f"{path}: damaged (a score or a loss that is no number); remove it and resume")
    return ImageResults(scores, losses)
