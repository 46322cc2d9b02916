"""Train many networks at once, each in a process of its own that reads an order and leaves weights and accuracies.

    python -m bench.training FOLDER      carries out FOLDER/order.json

With one thread a process, the result is a function of the order alone, however many run side by side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from bench.stages import Workshop
from netadapt import zoo
from netadapt.errors import NetAdaptError, RunError
from netadapt.files import write_atomically
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.search.trainer import load_network
from netadapt.train import Classification, TrainingOptions, load_dataset
from netadapt.train.batches import Augmentation
from netadapt.train.loop import evaluate, fine_tune
from netadapt.zoo.factory import build
from netadapt.zoo.weight_files import save_weights


@dataclass(frozen=True)
class TrainingOrder:
    """A network to be trained: `network` of the zoo, at `widths` of `of` if given, from `source` weights or afresh."""

    network: str
    data: str
    seed: int
    epochs: float
    lr: float
    schedule: str
    #: Whether images are shifted and mirrored at random: good for long trainings, bad for short ones.
    augment: bool = True
    #: Widths of `network`'s channel groups; None leaves it as it is.
    widths: dict[str, int] | None = None
    #: Weights to start from, of a network of these widths; None starts from random ones.
    source: str | None = None


@dataclass(frozen=True)
class Trained:
    """A trained network: its weights, and its accuracy on hold-out and test split, shares of 1."""

    weights: Path
    holdout_accuracy: float
    test_accuracy: float
    seconds: float


def zoo_network(name: str, data: str, seed: int = 0) -> AdaptableNetwork:
    """A zoo network for a data set, its weights random by `seed`."""
    spec = zoo.NetworkSpec.parse(name)
    dataset = load_dataset(data, spec.size)
    module = build(spec, classes=len(dataset.classes), in_channels=dataset.channels, seed=seed).eval()
    return analyse(name, module, torch.zeros(1, dataset.channels, spec.size, spec.size))


def augmentation(augment: bool) -> Augmentation:
    """The usual random change of training images, or none."""
    return Augmentation() if augment else Augmentation(padding=0, flip=False)


def carry_out(folder: Path) -> None:
    """Train what `folder/order.json` says; leaves `weights.safetensors` and `result.json` there."""
    order = TrainingOrder(**json.loads((folder / "order.json").read_text(encoding="utf-8")))
    torch.set_num_threads(1)
    started = time.perf_counter()
    dataset = load_dataset(order.data, zoo.NetworkSpec.parse(order.network).size)
    network = zoo_network(order.network, order.data, order.seed)
    widths = order.widths or network.widths
    module = load_network(network, widths, Path(order.source)) if order.source else network.shaped(widths)
    task = Classification()
    options = TrainingOptions(lr=order.lr, schedule=order.schedule, augmentation=augmentation(order.augment))  # type: ignore[arg-type]
    steps = round(order.epochs * (len(dataset.train) // options.batch_size))
    parent = os.getppid()

    def on_step(done: int, loss: float) -> None:
        if os.getppid() != parent:
            os._exit(1)  # who ordered this is gone

    fine_tune(module, task, dataset, steps=steps, options=options, seed=order.seed, on_step=on_step)
    holdout = evaluate(module, task, dataset.holdout, dataset)
    test = evaluate(module, task, dataset.test, dataset)
    save_weights(module, folder / "weights.safetensors", {"widths": widths})
    result = {"holdout_accuracy": holdout.score, "test_accuracy": test.score, "seconds": time.perf_counter() - started}
    write_atomically(folder / "result.json", json.dumps(result).encode())


@dataclass(frozen=True)
class Crew:
    """Trains in `workers` processes at once, and only what has not been trained before."""

    workshop: Workshop
    workers: int
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def train(self, orders: Sequence[TrainingOrder]) -> list[Trained]:
        """Carry out all orders; the results come in their order.

        Raises:
            RunError: a training failed; the others that were in work are kept.

        """
        done = 0
        with ThreadPoolExecutor(self.workers) as pool, _running() as running:
            futures = [pool.submit(self._train, order, running) for order in orders]
            try:
                for future in as_completed(futures):
                    future.result()
                    done += 1
                    self.on_progress(done, len(orders))
            except BaseException:
                _abandon(futures, running)
                raise
        return [future.result() for future in futures]

    def _train(self, order: TrainingOrder, running: _Running) -> Trained:
        stage = self.workshop.stage("trained", **self._key(order))
        found = stage.do(lambda folder: _in_a_process(order, folder, running))
        return Trained(stage.folder / "weights.safetensors", **found)

    def _key(self, order: TrainingOrder) -> dict[str, Any]:
        """What decides the result: the folder of weights to start from says how they were made."""
        source = Path(order.source).relative_to(self.workshop.folder) if order.source else None
        return {**asdict(order), "source": source and str(source)}


class _Running:
    """Processes at work, to be ended when nobody waits for them any more."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = Lock()
        self._over = False

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._over:
                raise RunError("the training was stopped; the same command goes on with it")
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())
            self._processes.append(process)
        return process

    def end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._processes:
                process.kill()


@contextmanager
def _running() -> Iterator[_Running]:
    running = _Running()
    try:
        yield running
    finally:
        running.end()


def _abandon(futures: Sequence[Future[Trained]], running: _Running) -> None:
    for future in futures:
        future.cancel()
    running.end()


def _in_a_process(order: TrainingOrder, folder: Path, running: _Running) -> dict[str, Any]:
    write_atomically(folder / "order.json", json.dumps(asdict(order), sort_keys=True).encode())
    process = running.start([sys.executable, "-m", "bench.training", str(folder)])
    _, errors = process.communicate()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise RunError(f"training {order.network} (seed {order.seed}) in {folder} failed: {lines[-1]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def _environment() -> dict[str, str]:
    # The package that runs here must be the one that runs there, and so must this one.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([*filter(None, sys.path)])}


def main(arguments: Sequence[str]) -> int:
    """Carry out one order; errors are told in one line."""
    try:
        carry_out(Path(arguments[0]))
    except NetAdaptError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
