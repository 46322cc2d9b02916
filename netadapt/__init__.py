"""NetAdapt: shrink a pre-trained CNN to what a phone or board can afford, guided by measured costs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netadapt import errors
    from netadapt.api import AdaptedNetwork, adapt
    from netadapt.errors import NetAdaptError
    from netadapt.lut.store import Table
    from netadapt.measure.compare import compare
    from netadapt.measure.device import Device, open_device
    from netadapt.measure.measurement import Measurement
    from netadapt.measure.platform import Platform, list_platforms, load_platform
    from netadapt.search.budget import Pace
    from netadapt.search.observer import Observer
    from netadapt.search.strategy import FAST, PAPER, Strategy
    from netadapt.search.trainer import Training
    from netadapt.train.batches import Augmentation
    from netadapt.train.data import Dataset, Split, load_dataset
    from netadapt.train.loop import TrainingOptions
    from netadapt.train.task import Classification, Evaluation, Task

__version__ = "0.1.0"

#: Where public names are defined.
_HOMES = {
    "api": ("AdaptedNetwork", "adapt"),
    "errors": ("NetAdaptError",),
    "lut.store": ("Table",),
    "measure.compare": ("compare",),
    "measure.device": ("Device", "open_device"),
    "measure.measurement": ("Measurement",),
    "measure.platform": ("Platform", "list_platforms", "load_platform"),
    "search.budget": ("Pace",),
    "search.observer": ("Observer",),
    "search.strategy": ("FAST", "PAPER", "Strategy"),
    "search.trainer": ("Training",),
    "train.batches": ("Augmentation",),
    "train.data": ("Dataset", "Split", "load_dataset"),
    "train.loop": ("TrainingOptions",),
    "train.task": ("Classification", "Evaluation", "Task"),
}

__all__ = [
    "FAST",
    "PAPER",
    "AdaptedNetwork",
    "Augmentation",
    "Classification",
    "Dataset",
    "Device",
    "Evaluation",
    "Measurement",
    "NetAdaptError",
    "Observer",
    "Pace",
    "Platform",
    "Split",
    "Strategy",
    "Table",
    "Task",
    "Training",
    "TrainingOptions",
    "__version__",
    "adapt",
    "compare",
    "errors",
    "list_platforms",
    "load_dataset",
    "load_platform",
    "open_device",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that `import netadapt` stays light."""
    if name == "errors":
        return importlib.import_module(f"{__name__}.errors")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return list(__all__)
