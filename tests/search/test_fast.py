"""Whole searches by other strategies than the paper's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import check_that_killed_runs_end_with_the_same_networks
from scripted_device import ORIGINAL, ScriptedDevice
from small_search import products, small_adaptation, small_dataset, small_network, small_options
from test_adaptation import Brightness, Diverging
from torch import Tensor, nn

from netadapt.errors import BudgetError, RunError, TaskError, UnknownNameError
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.search.adapt import Adaptation
from netadapt.search.observer import Observer
from netadapt.search.options import Options
from netadapt.search.outcome import State
from netadapt.search.strategy import FAST, PAPER, Strategy, find_strategy
from netadapt.train.task import Batches, Classification, Evaluation

IDEAS = {
    "racing": Strategy(racing=True),
    "groups": Strategy(groups=3),
    "adaptive steps": Strategy(adaptive_steps=True),
    "growing slices": Strategy(growing_slices=True),
    "parts": Strategy(groups=3, racing=True, parts=2),
    "fast": FAST,
}
KILLS = 12
WHOLE = {"steps": 3, "images": None, "part": None, "every": None}


def options(strategy: Strategy = FAST, **changes: object) -> Options:
    return small_options(["macs=0.4x"], iterations=4, **{"strategy": strategy, **changes})


def journal(run: Path, event: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == event]


def trained_steps(run: Path) -> int:
    return sum(entry["outcome"]["look"]["steps"] for entry in journal(run, "proposal"))


def test_the_iterations_that_are_foreseen_follow_the_steps(device: Device, table: Table, tmp_path: Path) -> None:
    foreseen: list[int] = []

    class Listener(Observer):
        def iteration(self, state: State, limits: object, proposals: object, iterations: int) -> None:
            foreseen.append(iterations)

    asked = small_options(["macs=0.4x"], iterations=20, strategy=FAST)
    summary = small_adaptation(device, table, tmp_path, asked, observer=Listener()).run()
    # Steps are twice those of the schedule at first, and larger where the next allowed width saves more.
    assert 10 >= foreseen[0] >= foreseen[-1] >= summary["iterations"] == len(foreseen)


@pytest.mark.parametrize("idea", IDEAS)
def test_every_idea_alone_reaches_the_budget_with_exact_resources(
    device: Device, table: Table, tmp_path: Path, idea: str
) -> None:
    summary = small_adaptation(device, table, tmp_path, options(IDEAS[idea])).run()
    assert summary["budget_met"]
    assert summary["adapted"]["macs"] <= 0.4 * 384_064
    network = small_network()
    for accepted in summary["pareto"]:
        assert accepted["predicted"]["macs"] == network.plan.macs(accepted["widths"])
        assert (tmp_path / accepted["onnx"]).exists()


def test_several_groups_are_narrowed_at_once_if_one_alone_cannot_save_what_is_asked_for(
    device: Device, table: Table, tmp_path: Path
) -> None:
    asked = small_options(["macs=0.14x"], iterations=2)
    # In two steps the paper cannot get there: see test_a_search_that_gets_stuck_ends_with_what_it_has.
    summary = small_adaptation(device, table, tmp_path, replace(asked, strategy=FAST)).run()
    assert summary["budget_met"]
    assert " + " in journal(tmp_path, "accepted")[0]["group"]
    assert [entry["outcome"]["look"] for entry in journal(tmp_path, "proposal")][-1] == WHOLE


def test_a_step_that_no_group_can_save_becomes_smaller(device: Device, table: Table, tmp_path: Path) -> None:
    # The group that costs most leaves 0.376 of the MACs at its narrowest (16 channels): 144,448 of 384,064.
    asked = small_options(["macs=0.3x"], iterations=1)
    summary = small_adaptation(device, table, tmp_path, replace(asked, strategy=IDEAS["adaptive steps"])).run()
    assert summary["budget_met"]
    assert summary["iterations"] == 2
    with pytest.raises(BudgetError, match="no group can be narrowed enough"):
        small_adaptation(device, table, tmp_path / "paper", asked).run()


def test_a_race_takes_fewer_steps_for_the_same_number_of_proposals(
    device: Device, table: Table, tmp_path: Path
) -> None:
    for name in ("paper", "racing"):
        strategy = PAPER if name == "paper" else IDEAS[name]
        small_adaptation(device, table, tmp_path / name, options(strategy)).run()
    assert trained_steps(tmp_path / "racing") < trained_steps(tmp_path / "paper")
    first = [entry["outcome"] for entry in journal(tmp_path / "racing", "proposal")]
    assert {outcome["look"]["steps"] for outcome in first} >= {0, 3}


def test_the_group_that_did_worst_sits_the_next_race_out(device: Device, table: Table, tmp_path: Path) -> None:
    asked = small_options(["macs=0.15x"], iterations=10, strategy=IDEAS["racing"])
    small_adaptation(device, table, tmp_path, asked).run()
    races: dict[int, dict[str, float]] = {}
    for entry in journal(tmp_path, "proposal"):
        proposal, look = entry["outcome"]["proposal"], entry["outcome"]["look"]
        if look["steps"] == 0:
            races.setdefault(proposal["iteration"], {})[proposal["group"]] = entry["outcome"]["loss"]
    assert len(races[0]) > 1
    worst = max(races[0], key=lambda group: races[0][group])
    assert races[1].keys() == races[0].keys() - {worst}
    assert worst in races[2]


def test_joint_networks_are_fine_tuned_in_two_parts_and_then_judged_by_all_images(
    device: Device, table: Table, tmp_path: Path
) -> None:
    asked = options()
    asked = replace(asked, short_term=replace(asked.short_term, steps=6))
    summary = small_adaptation(device, table, tmp_path, asked).run()
    made = [entry["outcome"] for entry in journal(tmp_path, "proposal")]
    tuned = [outcome for outcome in made if outcome["look"]["steps"]]
    parts = [outcome for outcome in tuned if outcome["look"]["part"] is not None]
    # Of six steps each part has two thirds; then each looks at half of the images.
    seen = [(look["steps"], look["part"], look["every"]) for look in (outcome["look"] for outcome in parts)]
    assert set(seen) == {(4, 0, None), (4, 1, None), (6, 0, 2), (6, 1, 2)}
    wholes = [outcome for outcome in tuned if outcome["look"] == {**WHOLE, "steps": 6}]
    assert len(parts) == 4 * len(wholes) == len(tuned) - len(wholes)
    for whole in wholes:
        of_parts = [
            outcome["score"]
            for outcome in parts
            if outcome["look"]["every"] and outcome["proposal"] == whole["proposal"]
        ]
        assert whole["score"] == pytest.approx(sum(of_parts) / 2)
    assert len(wholes) >= summary["iterations"]


def test_a_single_holdout_image_is_not_divided(device: Device, table: Table, tmp_path: Path) -> None:
    dataset = small_dataset()
    single = replace(dataset, holdout=dataset.holdout.sample(1))
    search = Adaptation(small_network(), single, device, table, options(), tmp_path, task=Classification())
    assert search.run()["budget_met"]
    assert not any(entry["outcome"]["look"]["every"] for entry in journal(tmp_path, "proposal"))


class DivergingOnce(Classification):
    """A task whose first training step fails."""

    failed = False

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        loss = super().loss(module, images, targets)
        factor, self.failed = 1.0 if self.failed else torch.nan, True
        return loss * factor


def test_a_half_that_diverges_leaves_the_other_one(device: Device, table: Table, tmp_path: Path) -> None:
    summary = small_adaptation(device, table, tmp_path, options(), task=DivergingOnce()).run()
    assert summary["budget_met"]
    assert [dropped["iteration"] for dropped in summary["cost"]["dropped_proposals"]] == [0]
    made = [entry["outcome"] for entry in journal(tmp_path, "proposal")]
    first = [outcome for outcome in made if outcome["proposal"]["iteration"] == 0 and outcome["look"] == WHOLE]
    assert first
    assert not any(outcome["dropped"] for outcome in first)


def test_the_paper_looks_at_each_proposal_once_and_whole(device: Device, table: Table, tmp_path: Path) -> None:
    small_adaptation(device, table, tmp_path, options(PAPER)).run()
    looks = [entry["outcome"]["look"] for entry in journal(tmp_path, "proposal")]
    assert looks == [WHOLE] * len(looks)


@pytest.mark.parametrize("idea", ["racing", "fast"])
def test_serial_and_processes_end_with_the_same_networks(
    device: Device, table: Table, tmp_path: Path, idea: str
) -> None:
    made = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        small_adaptation(device, table, out, options(IDEAS[idea], workers=workers)).run()
        made.append(products(out))
    assert made[0] == made[1]


@pytest.mark.timeout(400)
def test_runs_killed_at_random_instants_end_with_the_same_networks(tmp_path: Path) -> None:
    # Every network but the original costs more than predicted, so the search also goes on after what it measured.
    device = ScriptedDevice(lambda macs: macs if macs == ORIGINAL else 1.1 * macs, "local")

    def adapt(out: Path, workers: int) -> None:
        asked = small_options(["latency=0.4x"], iterations=4, strategy=FAST, correction=False, workers=workers)
        with Table.open(tmp_path / "table.sqlite") as table:
            small_adaptation(device, table, out, asked).run(resume=True)

    check_that_killed_runs_end_with_the_same_networks(adapt, tmp_path, KILLS)
    assert journal(tmp_path / "whole", "corrected")


@pytest.mark.parametrize("idea", IDEAS)
def test_a_task_without_results_of_single_images_is_searched_too(
    device: Device, table: Table, tmp_path: Path, idea: str
) -> None:
    assert small_adaptation(device, table, tmp_path, options(IDEAS[idea]), task=Brightness()).run()["budget_met"]


class TellingOfWholeSplits(Classification):
    """A task that tells of single images only when it sees all 100 of them."""

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        evaluation = super().evaluate(module, batches)
        return evaluation if evaluation.count == 100 else replace(evaluation, images=None)


def test_a_task_tells_of_single_images_always_or_never(device: Device, table: Table, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"network of iteration 0 .* Evaluation.images is given always or never"):
        small_adaptation(device, table, tmp_path, options(), task=TellingOfWholeSplits()).run()


def test_when_the_joint_networks_are_all_dropped_the_reason_is_told(
    device: Device, table: Table, tmp_path: Path
) -> None:
    # The first looks train nothing, so they are sound; the fine-tune after them is not.
    with pytest.raises(BudgetError, match=r"all proposals of iteration 0 were dropped: the loss became nan"):
        small_adaptation(device, table, tmp_path, options(), task=Diverging()).run()
    assert small_adaptation(device, table, tmp_path, options()).run(resume=True)["budget_met"]


def test_strategies_have_names() -> None:
    assert find_strategy("paper") == PAPER == Strategy()
    assert find_strategy("fast") == FAST
    with pytest.raises(UnknownNameError, match="choose one of: fast, paper"):
        find_strategy("exhaustive")


def test_a_strategy_narrows_something() -> None:
    with pytest.raises(BudgetError, match="0 groups an iteration; at least 1"):
        Strategy(groups=0)
    with pytest.raises(BudgetError, match="fine-tunes in 0 parts; at least 1"):
        Strategy(parts=0)


def test_another_strategy_is_another_run(device: Device, table: Table, tmp_path: Path) -> None:
    small_adaptation(device, table, tmp_path, options(PAPER)).run()
    with pytest.raises(RunError, match="strategy"):
        small_adaptation(device, table, tmp_path, replace(options(PAPER), strategy=FAST)).run(resume=True)
