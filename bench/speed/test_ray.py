"""What Ray costs where it is not needed: on one machine, against worker processes."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt import zoo
from netadapt.network.network import analyse
from netadapt.search.executors import make_executor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train import Classification, TrainingOptions, load_dataset
from netadapt.zoo.weight_files import save_weights

pytest.importorskip("ray", reason="Ray is not installed; pip install '.[ray]'")

NAME, DATA = "mobilenet_v1:0.25@32", "fashion-mnist-mini"
PROPOSALS, STEPS, ROUNDS = 8, 40, 3
MOST_SLOWDOWN = 1.10


def test_ray_against_processes(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The same proposals by two processes and by two workers of Ray, in turn; starting them counts apart."""
    torch.set_num_threads(1)
    resolved = zoo.resolve(NAME, classes=10, in_channels=1)
    network = analyse(NAME, resolved.module, resolved.example_input)
    trainer = ProposalTrainer(network, Classification(), load_dataset(DATA, 32), TrainingOptions(lr=0.01))
    source = tmp_path / "source.safetensors"
    save_weights(network.module, source, {})
    seconds: dict[str, list[tuple[float, float]]] = {"2": [], "ray:2": []}
    scores: dict[str, list[dict[str, float]]] = {"2": [], "ray:2": []}

    def both() -> None:
        for workers, taken in seconds.items():
            outcomes: list[Outcome] = []
            begun = time.perf_counter()
            with make_executor(trainer, workers) as executor:
                started = time.perf_counter()
                executor.run(_orders(network.widths, source, tmp_path), outcomes.append)
                taken.append((started - begun, time.perf_counter() - started))
            scores[workers].append({outcome.proposal.group: outcome.loss for outcome in outcomes})

    benchmark.pedantic(both, rounds=ROUNDS)
    pairs = zip(seconds["ray:2"], seconds["2"], strict=True)
    slowdowns = [ray / processes for (_, ray), (_, processes) in pairs]
    benchmark.extra_info["slowdown"] = round(median(slowdowns), 3)
    benchmark.extra_info["slowdowns"] = [round(slowdown, 3) for slowdown in slowdowns]
    benchmark.extra_info["seconds"] = {name: [round(run, 2) for _, run in taken] for name, taken in seconds.items()}
    benchmark.extra_info["start_s"] = {name: [round(start, 2) for start, _ in taken] for name, taken in seconds.items()}
    assert scores["ray:2"] == scores["2"]
    assert benchmark.extra_info["slowdown"] <= MOST_SLOWDOWN


def _orders(widths: dict[str, int], source: Path, folder: Path) -> list[Order]:
    """Proposals that narrow a group each, to half its width."""
    return [
        Order(
            Proposal(0, group, {**widths, group: width // 2}, {}),
            Look(STEPS),
            widths,
            source,
            folder / f"{group}.safetensors",
            seed=number,
            steps=STEPS,
        )
        for number, (group, width) in enumerate(list(widths.items())[-PROPOSALS:])
    ]
