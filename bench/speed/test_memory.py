"""How much memory a search takes with large networks, and that it does not grow with the number of proposals."""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt import zoo
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.search.executors import make_executor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train import Classification, Dataset, TrainingOptions, load_dataset
from netadapt.train.memory import TrainingMemory, give_back_memory
from netadapt.zoo.weight_files import save_weights

WORKERS = 2
MOST_BYTES = 6 * 10**9
MOST_GROWTH = 1.1
STEPS = 2
HOLDOUT_IMAGES = 60


class PeakOfTree:
    """The most memory that this process and its children have together: pages that several share count once."""

    _EVERY_S = 0.1

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._EVERY_S):
            self.bytes = max(self.bytes, sum(map(_proportional_bytes, _tree(os.getpid()))))


def _tree(process: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += map(int, task.read_text().split())
        except OSError:
            continue  # it has ended
    return [process, *(member for child in children for member in _tree(child))]


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "batch"), [("mobilenet_v1@224", 32), ("resnet50@224", 16)])
def test_two_workers_within_6_gb(benchmark: BenchmarkFixture, tmp_path: Path, name: str, batch: int) -> None:
    data = _dataset()
    resolved = zoo.resolve(name, classes=10, in_channels=data.channels)
    network = analyse(name, resolved.module, resolved.example_input)
    save_weights(network.module, tmp_path / "source.safetensors", {})
    trainer = ProposalTrainer(network, Classification(), data, TrainingOptions(lr=0.005, batch_size=batch))
    orders = [_order(network, group, tmp_path) for group in network.groups]
    few = _peak(trainer, orders[:WORKERS])
    many = benchmark.pedantic(_peak, (trainer, orders[:12]), rounds=1)
    estimated = TrainingMemory.of(network.module, network.example_input).at(batch)
    benchmark.extra_info.update(peak_bytes=many, peak_bytes_of_one_proposal_each=few, estimated_of_a_worker=estimated)
    assert many <= MOST_BYTES
    assert many <= MOST_GROWTH * few


def _dataset() -> Dataset:
    data = load_dataset("fashion-mnist-mini", 224)
    return replace(data, holdout=data.holdout.sample(HOLDOUT_IMAGES))


def _order(network: AdaptableNetwork, group: str, folder: Path) -> Order:
    widths = {**network.widths, group: network.widths[group] * 3 // 4}
    proposal, target = Proposal(0, group, widths, {}), folder / f"{group}.safetensors"
    return Order(proposal, Look(STEPS), network.widths, folder / "source.safetensors", target, seed=0, steps=STEPS)


def _peak(trainer: ProposalTrainer, orders: Sequence[Order]) -> int:
    outcomes: list[Outcome] = []
    give_back_memory()  # as a search does before it forks its workers
    with make_executor(trainer, WORKERS) as executor, PeakOfTree() as peak:
        executor.run(orders, outcomes.append)
    assert [outcome.dropped for outcome in outcomes] == [""] * len(orders)
    return peak.bytes
