"""How the paper's own code makes proposals (https://github.com/denru01/netadapt), to be timed: a new process for each.

    python -m bench.reference_way FOLDER      carries out FOLDER/job.json

Every process imports torch, loads the data set, builds and analyses the network, and loads weights anew; only what is
done with them is ours, so that the networks are the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch

from netadapt.by_name import load_network_and_data
from netadapt.errors import NetAdaptError
from netadapt.files import write_atomically
from netadapt.network.network import analyse
from netadapt.search.executors import OnOutcome, attempt
from netadapt.search.outcome import Order, Outcome, dropped
from netadapt.search.trainer import ProposalTrainer
from netadapt.train import Classification, TrainingOptions
from netadapt.train.batches import Augmentation


class ReferenceWay:
    """An executor that has `workers` processes at once, each for a single order.

    Args:
        network: a network of the zoo; the orders say which weights it has.
        data: a data set by name.
        options: of the short-term fine-tune.
        workers: how many processes work at once.
        folder: where orders and outcomes lie.

    """

    def __init__(self, network: str, data: str, options: TrainingOptions, workers: int, folder: Path) -> None:
        self._job = {"network": network, "data": data, "options": asdict(options)}
        self._workers = workers
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        """Carry out all orders; one whose process fails gives a dropped outcome."""
        with ThreadPoolExecutor(self._workers) as pool:
            futures = [pool.submit(self._carry_out, order) for order in orders]
            try:
                for future in as_completed(futures):
                    on_outcome(future.result())
            except BaseException:
                self._abandon(futures)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._abandon([])

    def _carry_out(self, order: Order) -> Outcome:
        folder = self._folder / order.target.stem
        write_atomically(folder / "job.json", json.dumps({**self._job, "order": order.to_json()}).encode())
        command = [sys.executable, "-m", "bench.reference_way", str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())
        self._processes.append(process)
        _, errors = process.communicate()
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            return dropped(order, lines[-1])
        return Outcome.from_json(json.loads((folder / "outcome.json").read_text(encoding="utf-8")))

    def _abandon(self, futures: Sequence[Future[Outcome]]) -> None:
        for future in futures:
            future.cancel()
        for process in self._processes:
            process.kill()


def carry_out(folder: Path) -> None:
    """Make the proposal of `folder/job.json`; leaves `outcome.json` there.

    Raises:
        NetAdaptError: the network or the data cannot be loaded.

    """
    job: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    resolved, dataset = load_network_and_data(job["network"], job["data"], None)
    network = analyse(resolved.name, resolved.module, resolved.example_input)
    parent = os.getppid()

    def on_step(done: int, loss: float) -> None:
        if os.getppid() != parent:
            os._exit(1)  # who ordered this is gone

    trainer = ProposalTrainer(network, Classification(), dataset, _options(job["options"]), on_step=on_step)
    outcome = attempt(trainer, Order.from_json(job["order"]))
    write_atomically(folder / "outcome.json", json.dumps(outcome.to_json()).encode())


def _options(fields: dict[str, Any]) -> TrainingOptions:
    return TrainingOptions(**{**fields, "augmentation": Augmentation(**fields["augmentation"])})


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
