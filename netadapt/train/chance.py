"""Whether a network that should be trained knows anything about the images it is given."""

from __future__ import annotations

import numpy as np

from netadapt.train.data.types import Dataset, Split
from netadapt.train.task import Evaluation

#: A classifier this little of the way from chance to perfect has most likely been given something wrong.
_SHARE = 0.1
_CLASSES_SHOWN = 10


def near_chance(evaluation: Evaluation, split: Split, dataset: Dataset) -> str | None:
    """Say what is likely wrong with a trained classifier that scores near chance on ``split``; None if it does not.

    Chance is the share of the most frequent class: many networks with wrong input name one class always.
    """
    chance = float(np.bincount(split.labels).max() / len(split))
    if evaluation.score > chance + _SHARE * (1 - chance):
        return None
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (dataset.mean, dataset.std))
    classes = ", ".join(dataset.classes[:_CLASSES_SHOWN]) + (", ..." if len(dataset.classes) > _CLASSES_SHOWN else "")
    return (
        f"the given network scores {evaluation.score:.1%} on {len(split)} images of {dataset.name}, near chance "
        f"({chance:.1%}). A trained network does better, so check that the weights are trained and belong to this "
        f"network; that it was trained with mean {mean} and std {std} (--mean and --std give others); "
        f"and that its outputs are in the order of the classes: {classes}"
    )
