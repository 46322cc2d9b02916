import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_search import small_dataset, small_network

from netadapt.search.executors import CarryOut, make_executor
from netadapt.search.outcome import Look, Order, Outcome
from netadapt.search.proposals import Proposal
from netadapt.search.trainer import ProposalTrainer
from netadapt.train.loop import TrainingOptions
from netadapt.train.task import Classification
from netadapt.zoo.weight_files import save_weights


def orders(folder: Path, count: int = 4) -> list[Order]:
    return [
        Order(
            Proposal(0, f"group{index}", {"a": 8}, {}),
            Look(3),
            {"a": 16},
            folder / "source",
            folder / f"{index}",
            seed=index,
            steps=3,
        )
        for index in range(count)
    ]


@dataclass
class Misbehaving:
    """Fails at its second order in the given way, as often as `times` says; counts in files, as workers are many."""

    folder: Path
    fail: Callable[[], None]
    times: int

    def __call__(self, order: Order) -> Outcome:
        if order.seed == 1 and len(list(self.folder.glob("failed*"))) < self.times:
            (self.folder / f"failed{os.getpid()}-{time.monotonic_ns()}").touch()
            self.fail()
        return Outcome(order.proposal, order.look, score=order.seed / 10, loss=1.0, seconds=0.0, weights=order.target)


def run(carry_out: CarryOut, workers: int, work: list[Order]) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}

    def take(outcome: Outcome) -> None:
        assert outcome.proposal.group not in outcomes
        outcomes[outcome.proposal.group] = outcome

    with make_executor(carry_out, workers) as executor:
        executor.run(work, take)
    return outcomes


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_error() -> None:
    raise RuntimeError("no memory")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_order_has_one_outcome(tmp_path: Path, workers: int) -> None:
    outcomes = run(Misbehaving(tmp_path, die, times=0), workers, orders(tmp_path))
    assert {group: outcome.score for group, outcome in outcomes.items()} == {
        "group0": 0.0,
        "group1": 0.1,
        "group2": 0.2,
        "group3": 0.3,
    }


def test_nothing_to_do_is_done(tmp_path: Path) -> None:
    assert run(Misbehaving(tmp_path, die, times=0), 2, []) == {}


def test_an_order_whose_worker_was_killed_is_tried_once_more(tmp_path: Path) -> None:
    outcomes = run(Misbehaving(tmp_path, die, times=1), 2, orders(tmp_path))
    assert [outcome.dropped for outcome in outcomes.values()] == [""] * 4


def test_an_order_that_kills_two_workers_is_dropped(tmp_path: Path) -> None:
    outcomes = run(Misbehaving(tmp_path, die, times=9), 2, orders(tmp_path))
    assert "SIGKILL" in outcomes["group1"].dropped
    assert [group for group, outcome in outcomes.items() if not outcome.dropped] == ["group0", "group2", "group3"]
    assert len(list(tmp_path.glob("failed*"))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_costs_only_its_proposal(tmp_path: Path, workers: int) -> None:
    outcomes = run(Misbehaving(tmp_path, raise_error, times=9), workers, orders(tmp_path))
    assert outcomes["group1"].dropped == "RuntimeError: no memory"
    assert sum(not outcome.dropped for outcome in outcomes.values()) == 3


def test_an_idle_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    with make_executor(Misbehaving(tmp_path, die, times=0), 2) as executor:
        executor.run(orders(tmp_path, 2), outcomes.append)
        for worker in executor._workers:  # type: ignore[attr-defined]
            os.kill(worker.process.pid, signal.SIGKILL)
        executor.run(orders(tmp_path, 3), outcomes.append)
    assert len(outcomes) == 5


def trainer(lr: float = 0.05) -> ProposalTrainer:
    return ProposalTrainer(small_network(), Classification(), small_dataset(), TrainingOptions(lr=lr, batch_size=32))


def training_orders(made_by: ProposalTrainer, folder: Path, steps: int = 3) -> list[Order]:
    network = made_by.network
    save_weights(network.module, folder / "source.safetensors", {})
    return [
        Order(
            Proposal(0, group, {**network.widths, group: 16}, {}),
            Look(steps),
            network.widths,
            folder / "source.safetensors",
            folder / f"{group}.safetensors",
            seed,
            steps,
        )
        for seed, group in enumerate(network.groups)
    ]


def test_serial_and_processes_make_the_same_networks(tmp_path: Path) -> None:
    made = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        made_by = trainer()
        outcomes = run(made_by, workers, training_orders(made_by, folder))
        scores = {group: (outcome.score, outcome.loss) for group, outcome in outcomes.items()}
        weights = {group: outcome.weights.read_bytes() for group, outcome in outcomes.items()}
        made.append((scores, weights))
    assert made[0] == made[1]
    assert len(made[0][0]) == 3
    assert len(set(made[0][1].values())) == 3


def test_a_proposal_whose_loss_is_not_finite_is_dropped(tmp_path: Path) -> None:
    made_by = trainer(lr=1e30)
    outcomes = run(made_by, 2, training_orders(made_by, tmp_path))
    assert all("the loss became" in outcome.dropped or "loss is" in outcome.dropped for outcome in outcomes.values())
    assert not any(outcome.weights.exists() for outcome in outcomes.values())


def test_workers_end_when_the_search_is_killed(tmp_path: Path) -> None:
    made_by = trainer(lr=0.01)
    work = training_orders(made_by, tmp_path, steps=10**9)
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with make_executor(made_by, 2) as executor:
                pids = [worker.process.pid for worker in executor._workers]  # type: ignore[attr-defined]
                os.write(go, " ".join(map(str, pids)).encode())
                executor.run(work, lambda outcome: None)
        finally:
            os._exit(1)
    workers = [int(pid) for pid in os.read(ready, 100).split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived the search"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
