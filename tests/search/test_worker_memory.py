"""What a worker's memory comes to, proposal after proposal, with a network whose copies would be seen."""

from pathlib import Path

import torch
from small_search import SIZE, small_dataset
from torch import nn

from netadapt.network.network import analyse
from netadapt.search.executors.processes import ProcessesExecutor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train.loop import TrainingOptions
from netadapt.train.memory import give_back_memory
from netadapt.train.task import Classification
from netadapt.zoo.weight_files import save_weights

PROPOSALS = 14
CHANNELS = 4096


def heavy() -> nn.Module:
    """67 MB of weights, and hardly any activations beside them."""
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, SIZE),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(CHANNELS, 2),
    )


def test_a_worker_does_not_grow_from_one_proposal_to_the_next(tmp_path: Path) -> None:
    network = analyse("heavy", heavy(), torch.zeros(1, 1, SIZE, SIZE))
    source = tmp_path / "source.safetensors"
    save_weights(network.module, source, {})
    trainer = ProposalTrainer(network, Classification(), small_dataset(), TrainingOptions(lr=0.001, batch_size=4))
    group = next(iter(network.groups))
    widths = {**network.widths, group: CHANNELS * 3 // 4}
    # The same one again and again: different groups take different memory.
    orders = [
        Order(Proposal(number, group, widths, {}), Look(1), network.widths, source, tmp_path / f"{number}", 0, steps=1)
        for number in range(PROPOSALS)
    ]
    give_back_memory()  # as a search does before it forks its workers
    made: list[Outcome] = []
    with ProcessesExecutor(trainer, 1) as executor:
        executor.run(orders, made.append)
    assert [outcome.dropped for outcome in made] == [""] * PROPOSALS
    peaks = [outcome.memory_bytes for outcome in made]
    half = PROPOSALS // 2
    # Garbage is looked for in large processes only, so the first ones may grow up to there.
    assert max(peaks[half:]) <= 1.1 * max(peaks[:half])
