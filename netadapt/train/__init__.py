"""Data sets, fine-tuning, evaluation, and training from scratch. Heavy parts are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from netadapt.train.names import DATASETS

if TYPE_CHECKING:
    from netadapt.train.batches import Augmentation
    from netadapt.train.data import Dataset, Split, check_dataset, load_dataset
    from netadapt.train.fetch import fetch_fashion_mnist
    from netadapt.train.loop import TrainingOptions, evaluate, fine_tune
    from netadapt.train.recipe import Epoch, TrainedNetwork, train_module, train_network
    from netadapt.train.task import Classification, Evaluation, Task

__all__ = [
    "DATASETS",
    "Augmentation",
    "Classification",
    "Dataset",
    "Epoch",
    "Evaluation",
    "Split",
    "Task",
    "TrainedNetwork",
    "TrainingOptions",
    "check_dataset",
    "evaluate",
    "fetch_fashion_mnist",
    "fine_tune",
    "load_dataset",
    "train_module",
    "train_network",
]

_HOMES = {
    "batches": ("Augmentation",),
    "data": ("Dataset", "Split", "check_dataset", "load_dataset"),
    "fetch": ("fetch_fashion_mnist",),
    "loop": ("TrainingOptions", "evaluate", "fine_tune"),
    "recipe": ("Epoch", "TrainedNetwork", "train_module", "train_network"),
    "task": ("Classification", "Evaluation", "Task"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
