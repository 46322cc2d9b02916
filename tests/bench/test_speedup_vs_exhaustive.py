"""The fast strategy against the paper's: which arms there are, what is made of their times, and that none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.case import Bench, Case
from bench.cases.speedup_vs_exhaustive import arms, run, spread
from netadapt.lut.store import Table
from netadapt.measure.device import Device, open_device
from netadapt.measure.platform import load_platform
from netadapt.search.observer import Observer
from netadapt.search.strategy import FAST, PAPER, Strategy

pytestmark = pytest.mark.timeout(600)

PARAMETERS: dict[str, Any] = {
    "networks": {"mobilenet_v1:0.25@32": {}},
    "data": "fashion-mnist-mini",
    "seeds": [0],
    "ideas": {},
    "workers": 2,
    "short_batch": 128,
    "reference_proposals": 2,
    "rounds": 1,
    "run": {"budget": "latency=0.95x", "iterations": 1, "short_steps": 1, "long_steps": 1, "augment": False},
    "pre_training": {"epochs": 0.05, "lr": 0.1, "augment": False},
}


class Stages(Observer):
    """Remembers what began."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def stage(self, text: str) -> None:
        self.begun.append(text)

    @property
    def expensive(self) -> list[str]:
        """Runs, trainings, and the way of the authors' code."""
        return [text for text in self.begun if text.startswith(("training", "mobilenet_v1:0.25@32,"))]


@pytest.fixture
def device() -> Iterator[Device]:
    platform = load_platform("ort-local")
    haste = {"workload_time_limit_s": 0.01, "network_time_limit_s": 0.05}
    protocol = platform.protocol.model_copy(update=haste)
    with open_device(platform.model_copy(update={"protocol": protocol})) as opened:
        yield opened


def bench(device: Device, table: Table, folder: Path, observer: Observer, **changes: Any) -> Bench:
    for name in ("work", "session"):
        (folder / name).mkdir(exist_ok=True)
    case = Case("speedup_vs_exhaustive", 1, "smoke", {**PARAMETERS, **changes}, "d" * 16)
    return Bench(case, device, table, folder / "work", folder / "session", observer)


class Cut(Observer):
    """Ends a run when it has accepted a network."""

    def accepted(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_all_is_found_once_and_a_run_that_was_cut_is_made_anew(device: Device, tmp_path: Path) -> None:
    first, second = Stages(), Stages()
    with Table.open(tmp_path / "table.sqlite") as table:
        with pytest.raises(KeyboardInterrupt):
            run(bench(device, table, tmp_path, Cut()))
        found = run(bench(device, table, tmp_path, first))
        again = run(bench(device, table, tmp_path, second))
    assert first.expensive == [
        "training mobilenet_v1:0.25@32",
        "mobilenet_v1:0.25@32, paper, seed 0",
        "mobilenet_v1:0.25@32, fast, seed 0",
        "mobilenet_v1:0.25@32, proposals in the way of the authors' code",
    ]
    assert second.expensive == ["training mobilenet_v1:0.25@32"]
    assert again.host_data == found.host_data
    assert [row["arm"] for row in found.data["runs"]] == ["paper", "fast"]
    paper, fast = found.host_data["runs"]
    (reference,) = found.host_data["reference"]
    figures, times = found.figures, found.host_figures
    label = "mobilenet_v1_0.25_32"
    # Fresh processes make the very networks that the run's workers made.
    assert found.data["reference"] == [{"network": "mobilenet_v1:0.25@32", "made": 2, "same": 2}]
    assert figures[f"same_in_reference_way_{label}"].value == 1
    assert reference["extrapolated_s"] == pytest.approx(reference["wall_s"] / 2 * paper["proposals"])
    assert reference["wall_s"] > reference["training_s"] / 2
    assert times[f"speedup_of_fast_{label}"].value == pytest.approx(paper["search_s"] / fast["search_s"])
    over_reference = reference["extrapolated_s"] / fast["search_s"]
    assert times[f"speedup_over_reference_{label}"].value == pytest.approx(over_reference)
    gain = figures[f"accuracy_gain_of_fast_{label}"].value
    assert gain == pytest.approx(fast["test_accuracy"] - paper["test_accuracy"])
    assert found.headline in figures


def test_each_idea_is_taken_away_alone() -> None:
    assert [arm.title for arm in arms(False)] == ["paper", "fast"]
    by_title = {arm.title: arm.strategy for arm in arms(True)}
    assert len(by_title) == 2 + 5
    assert (by_title["paper"], by_title["fast"]) == (PAPER, FAST)
    assert by_title["fast without growing slices"] == Strategy(
        racing=FAST.racing, groups=FAST.groups, adaptive_steps=FAST.adaptive_steps, parts=FAST.parts
    )


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [5]), (2, [2, 7]), (5, [1, 3, 5, 7, 9]), (10, list(range(10))), (99, list(range(10)))]
)
def test_a_sample_is_spread_over_all(count: int, chosen: list[int]) -> None:
    assert spread(range(10), count) == chosen
