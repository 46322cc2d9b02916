"""Networks and data sets that do not fit are refused with a word, before any of it is trained or exported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netadapt.errors import DataError
from netadapt.train import Dataset, Split
from netadapt.train.fit import require_fit

EXAMPLE = torch.zeros(1, 3, 8, 8)


def network(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


def dataset(classes: tuple[str, ...] = ("cat", "dog", "eel"), highest: int = 2, channels: int = 3) -> Dataset:
    split = Split(np.zeros((2, channels, 8, 8), np.uint8), np.array([0, highest]))
    return Dataset("d", classes, channels, (0.5,) * channels, (0.5,) * channels, split, split, split)


class Giving(nn.Module):
    def __init__(self, give: object) -> None:
        super().__init__()
        self.give = give

    def forward(self, images: Tensor) -> object:
        return self.give(images)


def test_what_fits_is_left_as_it_was() -> None:
    fitting = network(3).train()
    before = {name: value.clone() for name, value in fitting.state_dict().items()}
    require_fit("n", fitting, EXAMPLE, dataset())
    assert fitting.training
    assert all(torch.equal(value, before[name]) for name, value in fitting.state_dict().items())
    require_fit("n", fitting, EXAMPLE, dataset(classes=()))  # a data set of the user's own that names none


@pytest.mark.parametrize(
    ("module", "data", "complaint"),
    [
        (network(2), dataset(), r"n has 2 outputs, but d has 3 classes \(cat, dog, eel\)"),
        (network(1000), dataset(), "n has 1000 outputs, but d has 3 classes"),
        (network(3), dataset(classes=(), highest=3), "d has the label 3, but n has only 3 outputs"),
        (network(3), dataset(channels=1), r"d has 1 channel, the example input 3"),
        (Giving(lambda images: {"logits": images}), dataset(), "n gives a dict; a classifier gives one tensor"),
        (Giving(lambda images: (images, images)), dataset(), "n gives a tuple; a classifier gives one tensor"),
        (Giving(lambda images: None), dataset(), "n gives a NoneType; a classifier gives one tensor"),
        (Giving(lambda images: images), dataset(), r"n gives \[1, 3, 8, 8\]; a classifier gives \[N, classes\]"),
        (Giving(lambda images: 1 / 0), dataset(), r"n fails on its example input \[1, 3, 8, 8\]: division by zero"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(module: nn.Module, data: Dataset, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        require_fit("n", module, EXAMPLE, data)
