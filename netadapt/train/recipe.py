"""Training a zoo network from scratch and writing its weights: what ``netadapt train`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import netadapt
from netadapt.errors import DataError
from netadapt.train.data.types import Dataset
from netadapt.train.device import CPU
from netadapt.train.loop import TrainingOptions, evaluate, fine_tune
from netadapt.train.task import Classification, Evaluation
from netadapt.zoo.factory import build
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.weight_files import save_weights

OnBatch = Callable[[int, int, float], None]
"""Hears how many batches are done, of how many, and the loss of the last one."""

SMOOTHED = Classification(label_smoothing=0.05)
"""Classification from scratch: a little smoothing keeps a small network from growing over-confident."""


@dataclass(frozen=True)
class Epoch:
    """Progress of a training: epochs done, mean training loss of the last one, and how good the network is."""

    number: int
    loss: float
    holdout: Evaluation


@dataclass(frozen=True)
class TrainedNetwork:
    """What a training ended with; ``test`` was read once, at the end."""

    module: nn.Module
    holdout: Evaluation
    test: Evaluation
    path: Path


def train_network(
    name: str,
    dataset: Dataset,
    *,
    epochs: int,
    options: TrainingOptions,
    seed: int,
    out: Path,
    threads: int = 1,
    device: str = CPU,
    task: Classification = SMOOTHED,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: OnBatch | None = None,
) -> TrainedNetwork:
    """Train zoo network ``name`` from scratch on ``dataset`` and write its weights to ``out`` (safetensors).

    After every epoch the weights so far replace ``out`` + ``.partial``, so a kill loses at most one epoch; ``out``
    itself appears complete or not at all. With one thread on the CPU, equal arguments give equal weights on the same
    machine.

    Raises:
        UnknownNameError, ModelError: the name is not one of a zoo network.
        DataError: the images do not have the network's size, or the training part is smaller than a batch.
        NonFiniteLossError: the training diverged.

    """
    spec = NetworkSpec.parse(name)
    _require_size(spec, dataset)
    return train_module(
        build(spec, classes=len(dataset.classes), in_channels=dataset.channels, seed=seed),
        str(spec),
        dataset,
        epochs=epochs,
        options=options,
        seed=seed,
        out=out,
        threads=threads,
        device=device,
        task=task,
        on_epoch=on_epoch,
        on_batch=on_batch,
    )


def train_module(
    module: nn.Module,
    name: str,
    dataset: Dataset,
    *,
    epochs: int,
    options: TrainingOptions,
    seed: int,
    out: Path,
    threads: int = 1,
    device: str = CPU,
    task: Classification = SMOOTHED,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: OnBatch | None = None,
) -> TrainedNetwork:
    """Train any classifier in place, from the weights that it has; else as `train_network`.

    Raises:
        DataError: the training part is smaller than a batch.
        NonFiniteLossError: the training diverged.

    """
    steps_per_epoch = _steps_per_epoch(dataset, options)
    steps = epochs * steps_per_epoch
    facts = _facts(name, dataset, options, task, seed)
    partial = out.with_name(out.name + ".partial")
    losses: list[float] = []

    def on_step(steps_done: int, loss: float) -> None:
        losses.append(loss)
        if on_batch is not None:
            on_batch(steps_done, steps, loss)
        if steps_done % steps_per_epoch:
            return
        number = steps_done // steps_per_epoch
        holdout = evaluate(module, task, dataset.holdout, dataset, device=device)
        save_weights(module, partial, {**facts, "epochs": number, "holdout_accuracy": holdout.score})
        if on_epoch is not None:
            on_epoch(Epoch(number, sum(losses) / len(losses), holdout))
        losses.clear()

    with _threads(threads):
        fine_tune(module, task, dataset, steps=steps, options=options, seed=seed, on_step=on_step, device=device)
        module.eval()
        holdout = evaluate(module, task, dataset.holdout, dataset, device=device)
        test = evaluate(module, task, dataset.test, dataset, device=device)
    results = {"epochs": epochs, "holdout_accuracy": holdout.score, "test_accuracy": test.score}
    save_weights(module, out, {**facts, **results})
    partial.unlink(missing_ok=True)
    return TrainedNetwork(module, holdout, test, out)


def _require_size(spec: NetworkSpec, dataset: Dataset) -> None:
    height, width = dataset.train.size
    if (height, width) != (spec.size, spec.size):
        raise DataError(f"{dataset.name} was loaded at {height} x {width}, but {spec} takes {spec.size} x {spec.size}")


def _steps_per_epoch(dataset: Dataset, options: TrainingOptions) -> int:
    steps = len(dataset.train) // options.batch_size
    if steps == 0:
        raise DataError(
            f"{dataset.name}: {len(dataset.train)} training images do not fill a batch of {options.batch_size}; "
            "choose a smaller batch"
        )
    return steps


def _facts(name: str, dataset: Dataset, options: TrainingOptions, task: Classification, seed: int) -> dict[str, object]:
    return {
        "network": name,
        "data": dataset.name,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "seed": seed,
        "options": asdict(options),
        "label_smoothing": task.label_smoothing,
        "versions": {"netadapt": netadapt.__version__, "torch": torch.__version__},
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
