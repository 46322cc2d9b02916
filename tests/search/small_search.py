"""A network and a data set small enough that a whole search takes a second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.search.adapt import Adaptation
from netadapt.search.budget import Pace, parse_budgets
from netadapt.search.observer import Observer
from netadapt.search.options import Options
from netadapt.search.trainer import Training
from netadapt.train.data.types import Dataset, Split
from netadapt.train.loop import TrainingOptions
from netadapt.train.task import Classification, Task

SIZE = 8


def small_network(seed: int = 0) -> AdaptableNetwork:
    """Three convolutions, of 48, 48 and 32 channels, for two classes of grey images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(1, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 32, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 2),
        )
    return analyse("small", module, torch.zeros(1, 1, SIZE, SIZE))


def small_dataset() -> Dataset:
    """Images that are brighter on the left (0) or on the right (1)."""
    generator = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = generator.integers(0, 2, count)
        images = generator.integers(0, 128, (count, 1, SIZE, SIZE))
        for image, label in zip(images, labels, strict=True):
            image[:, :, 4 * label : 4 * label + 4] += 90
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    return Dataset("sides", ("left", "right"), 1, (0.4,), (0.2,), split(256), split(100), split(100))


def small_options(budgets: Sequence[str] = ("macs=0.5x",), iterations: int = 3, **changes: object) -> Options:
    training = TrainingOptions(lr=0.05, batch_size=32)
    defaults: dict[str, object] = {
        "short_term": Training(3, training),
        "long_term": Training(5, training),
        "predicted": "limited",
    }
    return Options(parse_budgets(list(budgets)), pace=Pace(iterations), **{**defaults, **changes})  # type: ignore[arg-type]


def small_adaptation(
    device: Device,
    table: Table,
    out: Path,
    options: Options,
    task: Task | None = None,
    observer: Observer | None = None,
) -> Adaptation:
    return Adaptation(
        small_network(),
        small_dataset(),
        device,
        table,
        options,
        out,
        task=task or Classification(),
        observer=observer or Observer(),
    )


def products(run: Path) -> dict[str, bytes]:
    """The weights and models that a run has made, byte by byte."""
    files = sorted([*run.glob("weights/*.safetensors"), *run.glob("onnx/*.onnx")])
    return {file.name: file.read_bytes() for file in files}
