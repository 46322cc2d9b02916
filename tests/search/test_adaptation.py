import json
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch
from killing import check_that_killed_runs_end_with_the_same_networks
from small_search import SIZE, products, small_adaptation, small_dataset, small_network, small_options
from torch import Tensor, nn

from netadapt.errors import BudgetError, RunError, UnknownNameError
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.network import analyse, observe
from netadapt.search.observer import Observer
from netadapt.search.outcome import Outcome, State
from netadapt.search.trainer import load_network
from netadapt.train.loop import evaluate
from netadapt.train.task import Batches, Classification, Evaluation

#: How many random instants a run is killed at.
KILLS = 20


def test_a_run_ends_within_its_budget_with_everything_in_its_folder(
    device: Device, table: Table, tmp_path: Path
) -> None:
    summary = small_adaptation(device, table, tmp_path / "run", small_options()).run()
    network = small_network()
    # 8*8*9*48 + 4*4*9*48*48 + 4*4*48*32 + 32*2
    assert summary["original"]["macs"] == 384_064
    assert network.plan.macs(summary["adapted"]["widths"]) == summary["adapted"]["macs"] <= 192_032
    assert summary["budget_met"]
    assert summary["stopped"] is None
    assert 1 <= summary["iterations"] <= 3
    assert len(summary["pareto"]) == summary["iterations"]
    assert summary["tier"] == "local"
    assert summary["speedup"]["low"] <= summary["speedup"]["ratio"] <= summary["speedup"]["high"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert not (tmp_path / "run" / "proposals").exists()


def test_every_iteration_is_a_deployable_model_that_says_what_it_is(
    device: Device, table: Table, tmp_path: Path
) -> None:
    summary = small_adaptation(device, table, tmp_path, small_options()).run()
    network = small_network()
    for entry in [*summary["pareto"], summary["adapted"]]:
        model = onnx.load(tmp_path / entry["onnx"])
        facts = {item.key: item.value for item in model.metadata_props}
        assert facts["netadapt.widths"] == str(entry["widths"])
        assert facts["netadapt.tier"] == "local"
    accepted = summary["pareto"][-1]
    weights = tmp_path / "weights" / f"iteration-{accepted['iteration']:02d}.safetensors"
    module = load_network(network, accepted["widths"], weights)
    assert observe(module, network.example_input, {}).workloads == network.plan.at(accepted["widths"])
    dataset = small_dataset()
    assert evaluate(module, Classification(), dataset.holdout, dataset).score == accepted["holdout_accuracy"]


class Ledger(Observer):
    """Writes down what was proposed and accepted."""

    def __init__(self) -> None:
        self.scores: list[dict[str, float]] = []
        self.chosen: list[str] = []
        self.costs: list[dict[str, float]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def iteration(self, state: State, *rest: object) -> None:
        self.scores.append({})

    def proposal(self, outcome: Outcome, done: int, total: int) -> None:
        self.scores[-1][outcome.proposal.group] = outcome.score

    def accepted(self, state: State, narrowed: Mapping[str, int]) -> None:
        (group,) = narrowed
        self.chosen.append(group)
        self.costs.append(state.resources)


def test_each_iteration_accepts_its_most_accurate_proposal_within_the_limit(
    device: Device, table: Table, tmp_path: Path
) -> None:
    ledger = Ledger()
    small_adaptation(device, table, tmp_path, small_options(), observer=ledger).run()
    for scores, chosen in zip(ledger.scores, ledger.chosen, strict=True):
        assert scores[chosen] == max(scores.values())
    # The network is untrained, as one with wrong weights is.
    assert any("near chance" in note for note in ledger.notes)
    # The first of three steps with decay 0.96: half of 384,064, divided by 1 + 0.96 + 0.96 squared.
    assert ledger.costs[0]["macs"] <= 384_064 - 192_032 / 2.8816


def test_several_budgets_hold_at_once(device: Device, table: Table, tmp_path: Path) -> None:
    options = small_options(["macs=0.6x", "params=0.5x", "latency=0.95x"])
    summary = small_adaptation(device, table, tmp_path, options).run()
    assert summary["adapted"]["macs"] <= 0.6 * summary["original"]["macs"]
    assert summary["adapted"]["params"] <= 0.5 * summary["original"]["params"]
    assert summary["adapted"]["predicted_latency_ns"] <= 0.95 * summary["original"]["predicted_latency_ns"]


def test_serial_and_processes_end_with_the_same_networks(device: Device, table: Table, tmp_path: Path) -> None:
    made = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        small_adaptation(device, table, out, small_options(workers=workers, selection="ratio")).run()
        made.append(products(out))
    assert made[0] == made[1]
    assert "adapted.safetensors" in made[0]


@pytest.mark.parametrize(
    ("budgets", "complaint"),
    [
        (["macs=384064"], "met already"),
        (["macs=1k"], "impossible: with every group at its narrowest the network still costs"),
    ],
)
def test_a_senseless_budget_is_refused_before_training(
    device: Device, table: Table, tmp_path: Path, budgets: list[str], complaint: str
) -> None:
    with pytest.raises(BudgetError, match=complaint):
        small_adaptation(device, table, tmp_path, small_options(budgets)).run()


def test_a_metric_that_the_platform_does_not_measure_is_refused(device: Device, table: Table, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="latency"):
        small_adaptation(device, table, tmp_path, small_options(["energy=0.5x"])).run()
    assert not (tmp_path / "config.json").exists()


def test_a_search_that_gets_stuck_ends_with_what_it_has(device: Device, table: Table, tmp_path: Path) -> None:
    # At their narrowest (16 each) the groups cost 50,208. The budget is 53,769, but after one group has been narrowed
    # the best that one other can reach is 9,216 + 36,864 + 8,192 + 64 = 54,336.
    summary = small_adaptation(device, table, tmp_path, small_options(["macs=0.14x"], iterations=2)).run()
    assert not summary["budget_met"]
    assert "no group can be narrowed enough" in summary["stopped"]
    assert summary["iterations"] == 1
    assert (tmp_path / summary["adapted"]["onnx"]).exists()


def test_a_finished_run_gives_its_summary_again(device: Device, table: Table, tmp_path: Path) -> None:
    summary = small_adaptation(device, table, tmp_path, small_options()).run()
    (tmp_path / "summary.json").unlink()
    assert small_adaptation(device, table, tmp_path, small_options()).run(resume=True) == summary
    assert (tmp_path / "summary.json").exists()
    with pytest.raises(RunError, match="--resume"):
        small_adaptation(device, table, tmp_path, small_options()).run()


class Stopping(Observer):
    """Stops a run as Ctrl-C would: once its first network was accepted, or before it is tested and measured."""

    def __init__(self, early: bool) -> None:
        self.early = early

    def accepted(self, state: State, narrowed: Mapping[str, int]) -> None:
        if self.early:
            raise KeyboardInterrupt

    def stage(self, text: str) -> None:
        if text.startswith("testing"):
            raise KeyboardInterrupt


def test_a_resumed_run_writes_the_same_bytes_whatever_the_names_of_its_layers(
    device: Device, table: Table, tmp_path: Path
) -> None:
    layers = zip(("z", "y", "10", "bn", "x", "2", "w", "v", "u", "t"), small_network().module.children(), strict=True)
    network = analyse("renamed", nn.Sequential(OrderedDict(layers)), torch.zeros(1, 1, SIZE, SIZE))
    assert list(network.widths) != sorted(network.widths)

    def run(name: str, early: bool = False, resume: bool = False) -> dict[str, bytes]:
        options = small_options(correction=False)
        adaptation = small_adaptation(device, table, tmp_path / name, options, observer=Stopping(early))
        adaptation.network = network
        with pytest.raises(KeyboardInterrupt):
            adaptation.run(resume)
        return products(tmp_path / name)

    whole = run("whole")
    assert "adapted.onnx" in whole
    assert "adapted.onnx" not in run("stopped", early=True)
    shutil.copytree(tmp_path / "stopped", tmp_path / "older")
    assert run("stopped", resume=True) == whole
    # Older versions sorted what they wrote.
    journal = tmp_path / "older" / "journal.jsonl"
    events = map(json.loads, journal.read_text().splitlines())
    journal.write_text("".join(json.dumps(event, sort_keys=True) + "\n" for event in events))
    assert run("older", resume=True) == whole


class Diverging(Classification):
    """A task whose every loss is NaN."""

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return super().loss(module, images, targets) * torch.nan


def test_when_every_proposal_is_dropped_the_reason_is_told(device: Device, table: Table, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"all proposals of iteration 0 were dropped: the loss became nan"):
        small_adaptation(device, table, tmp_path, small_options(), task=Diverging()).run()
    # Nothing is lost: with a sound task the same run goes on.
    assert small_adaptation(device, table, tmp_path, small_options()).run(resume=True)["budget_met"]


class Brightness:
    """Not a classifier: the first output tells the mean brightness; the score is the negative squared error."""

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return (module(images)[:, 0] - images.mean((1, 2, 3))).square().mean()

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        errors = [self.loss(module, images, targets) for images, targets in batches]
        error = float(torch.stack(errors).mean())
        return Evaluation(-error, error, len(errors))


def test_a_task_of_ones_own_is_adapted_by_its_own_score(device: Device, table: Table, tmp_path: Path) -> None:
    summary = small_adaptation(device, table, tmp_path, small_options(), task=Brightness()).run()
    assert summary["adapted"]["test_accuracy"] < 0
    assert summary["budget_met"]


@pytest.mark.timeout(400)
def test_runs_killed_at_random_instants_end_with_the_same_networks(
    device: Device, table_path: Path, tmp_path: Path
) -> None:
    def adapt(out: Path, workers: int) -> None:
        with Table.open(table_path) as table:
            small_adaptation(device, table, out, small_options(["macs=0.4x"], iterations=4, workers=workers)).run(
                resume=True
            )

    check_that_killed_runs_end_with_the_same_networks(adapt, tmp_path, KILLS)
