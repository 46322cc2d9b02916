"""Proposals made by a new process each: the same networks as in one process, and told when one fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.reference_way import ReferenceWay
from netadapt.by_name import load_network_and_data
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.search.executors.serial import SerialExecutor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train import Classification, TrainingOptions
from netadapt.train.batches import Augmentation
from netadapt.train.data.types import Dataset
from netadapt.zoo.weight_files import save_weights

pytestmark = pytest.mark.timeout(300)

NETWORK, DATA = "mobilenet_v1:0.125@32", "fashion-mnist-mini"
OPTIONS = TrainingOptions(lr=0.01, batch_size=32, augmentation=Augmentation(padding=1, flip=False))


@pytest.fixture(scope="module")
def subject() -> tuple[AdaptableNetwork, Dataset]:
    resolved, dataset = load_network_and_data(NETWORK, DATA, None)
    return analyse(resolved.name, resolved.module, resolved.example_input), dataset


@pytest.fixture
def source(subject: tuple[AdaptableNetwork, Dataset], tmp_path: Path) -> Path:
    """Weights that are not those of a network built anew."""
    network, _ = subject
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.mul_(1.25)
    save_weights(network.module, tmp_path / "source.safetensors", {})
    return tmp_path / "source.safetensors"


def orders(network: AdaptableNetwork, source: Path, folder: Path) -> list[Order]:
    """The two widest groups, each halved."""
    widest = sorted(network.widths, key=lambda group: network.widths[group])[-2:]
    return [
        Order(
            Proposal(0, group, {**network.widths, group: network.widths[group] // 2}, {}),
            Look(3, images=200),
            source_widths=network.widths,
            source=source,
            target=folder / f"proposal-{index}.safetensors",
            seed=index,
            steps=3,
        )
        for index, group in enumerate(widest)
    ]


def test_gives_the_same_bits_as_one_process(
    subject: tuple[AdaptableNetwork, Dataset], source: Path, tmp_path: Path
) -> None:
    network, dataset = subject
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    serial, anew = tmp_path / "serial", tmp_path / "anew"
    ours: list[Outcome] = []
    try:
        trainer = ProposalTrainer(network, Classification(), dataset, OPTIONS)
        SerialExecutor(trainer).run(orders(network, source, serial), ours.append)
    finally:
        torch.set_num_threads(threads)
    theirs: list[Outcome] = []
    with ReferenceWay(NETWORK, DATA, OPTIONS, workers=2, folder=tmp_path / "jobs") as way:
        way.run(orders(network, source, anew), theirs.append)
    theirs.sort(key=lambda outcome: outcome.weights)
    assert [(outcome.score, outcome.loss) for outcome in theirs] == [(outcome.score, outcome.loss) for outcome in ours]
    assert ours[0].loss != ours[1].loss
    for name in ("proposal-0", "proposal-1"):
        for suffix in (".safetensors", ".images.safetensors"):
            assert (anew / f"{name}{suffix}").read_bytes() == (serial / f"{name}{suffix}").read_bytes()


def test_a_proposal_that_fails_says_why_and_costs_only_itself(
    subject: tuple[AdaptableNetwork, Dataset], source: Path, tmp_path: Path
) -> None:
    network, _ = subject
    missing, good = orders(network, tmp_path / "missing", tmp_path)[0], orders(network, source, tmp_path)[1]
    made: list[Outcome] = []
    with ReferenceWay(NETWORK, DATA, OPTIONS, workers=2, folder=tmp_path / "jobs") as way:
        way.run([missing, good], made.append)
    reasons = {outcome.weights: outcome.dropped for outcome in made}
    assert "there is no such weight file" in reasons[missing.target]
    assert reasons[good.target] == ""


def test_a_process_that_fails_says_why(subject: tuple[AdaptableNetwork, Dataset], source: Path, tmp_path: Path) -> None:
    network, _ = subject
    made: list[Outcome] = []
    with ReferenceWay(NETWORK, "no-such-data", OPTIONS, workers=1, folder=tmp_path / "jobs") as way:
        way.run(orders(network, source, tmp_path)[:1], made.append)
    assert "unknown data set 'no-such-data'" in made[0].dropped
