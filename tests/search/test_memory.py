"""What a worker's memory comes to, proposal after proposal, with a network whose copies would be seen."""

from pathlib import Path

import numpy as np

from netadapt import zoo
from netadapt.network.network import analyse
from netadapt.search.executors.processes import ProcessesExecutor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train.data.types import Dataset, Split
from netadapt.train.loop import TrainingOptions
from netadapt.train.memory import give_back_memory
from netadapt.train.task import Classification
from netadapt.zoo.weight_files import save_weights

PROPOSALS = 6
BATCH = 4


def noise(count: int) -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
    return Split(images, generator.integers(0, 2, count))


def test_a_worker_does_not_grow_from_one_proposal_to_the_next(tmp_path: Path) -> None:
    resolved = zoo.resolve("resnet50@64", classes=2, in_channels=3)
    network = analyse("resnet50@64", resolved.module, resolved.example_input)
    source = tmp_path / "source.safetensors"
    save_weights(network.module, source, {})
    data = Dataset("noise", ("a", "b"), 3, (0.5,) * 3, (0.3,) * 3, noise(16), noise(8), noise(8))
    trainer = ProposalTrainer(network, Classification(), data, TrainingOptions(lr=0.001, batch_size=BATCH))
    orders = []
    for group in list(network.groups)[:PROPOSALS]:
        widths = {**network.widths, group: network.widths[group] // 2}
        target = tmp_path / f"{group}.safetensors"
        orders.append(Order(Proposal(0, group, widths, {}), Look(1), network.widths, source, target, seed=0, steps=1))
    give_back_memory()  # as a search does before it forks its workers
    made: list[Outcome] = []
    with ProcessesExecutor(trainer, 1) as executor:
        executor.run(orders, made.append)
    assert [outcome.dropped for outcome in made] == [""] * PROPOSALS
    peaks = [outcome.memory_bytes for outcome in made]
    weights = sum(tensor.nbytes for tensor in network.module.state_dict().values())
    assert peaks[0] > 3 * weights  # source, proposal and gradients at the least, so a copy that is kept would be seen
    # The first one warms the allocator up.
    assert max(peaks[2:]) <= 1.05 * max(peaks[:2])
