"""Budgets are met when they are measured to be met, on a device whose every cost is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_device import ORIGINAL, ScriptedDevice
from small_search import products, small_adaptation, small_options

from netadapt.errors import RunError
from netadapt.lut.store import Table
from netadapt.measure.measurement import Tier
from netadapt.search.continuing import MOST_CORRECTIONS
from netadapt.search.judging import Judgement, worst
from netadapt.search.measured import LatencyRatio
from netadapt.search.observer import Observer
from netadapt.search.options import Options
from netadapt.search.strategy import FAST, PAPER
from netadapt.terminal import print_summary

STRATEGIES = {"paper": PAPER, "fast": FAST}


@pytest.fixture
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    with Table.open(tmp_path_factory.mktemp("table") / "table.sqlite") as opened:
        yield opened


def options(*budgets: str, **changes: object) -> Options:
    # Without a correction a layer's prediction is its number of MACs, so what is measured decides alone.
    return small_options(budgets, **{"correction": False, **changes})


def narrowed_cost_more(share: float) -> Callable[[int], float]:
    """A device on which every network but the original costs more than its layers, by a share."""
    return lambda macs: macs if macs == ORIGINAL else macs * (1 + share)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == kind]


# --- one judgement ---


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict", "excess"),
    [
        (0.59, 0.58, 0.6, "met", 1.0),
        (0.61, 0.601, 0.62, "not met", 0.62 / 0.6),
        (0.6, 0.595, 0.605, "undecided", 0.605 / 0.6),
        # A busy machine: the network is not made so small that even its widest interval would fit.
        (0.6, 0.5, 0.9, "undecided", 1.02),
        (0.55, 0.5, 0.9, "undecided", 0.55 * 1.02 / 0.6),
    ],
)
def test_verdicts_by_hand(value: float, low: float, high: float, verdict: str, excess: float) -> None:
    judgement = Judgement("latency", True, 0.6, value, low, high)
    assert judgement.verdict == verdict
    assert judgement.excess == pytest.approx(excess)


@given(st.floats(0.1, 2.0), st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_a_search_goes_on_only_for_what_is_not_met_and_by_2_percent_at_most(
    value: float, below: float, above: float
) -> None:
    judgement = Judgement("latency", True, 1.0, value, value * (1 - below), value * (1 + above))
    if judgement.excess > 1:
        assert judgement.verdict != "met"
        assert judgement.excess <= value * 1.021
    elif judgement.verdict == "not met":
        raise AssertionError(f"{judgement} could be met, but the search would end")


def test_the_worst_verdict_is_that_of_all() -> None:
    met = Judgement("macs", False, 10, 10, 10, 10)
    undecided = Judgement("latency", True, 0.6, 0.6, 0.59, 0.61)
    above = Judgement("energy", False, 10, 11, 11, 11)
    assert worst([met]) == "met"
    assert worst([met, undecided]) == "undecided"
    assert worst([undecided, above, met]) == "not met"


# --- whole searches ---


@pytest.mark.parametrize(
    ("strategy", "tier", "budget"),
    [
        ("paper", "local", "latency=0.6x"),
        ("fast", "local", "latency=0.6x"),
        ("fast", "simulated", "latency=0.6x"),
        ("paper", "simulated", f"latency={0.6 * ORIGINAL:.0f}ns"),
        ("fast", "local", f"latency={0.6 * ORIGINAL:.0f}ns"),
    ],
)
def test_a_search_goes_on_until_its_budget_is_measured_to_be_met(
    table: Table, tmp_path: Path, strategy: str, tier: Tier, budget: str
) -> None:
    asked = options(budget, strategy=STRATEGIES[strategy])
    device = ScriptedDevice(narrowed_cost_more(0.1), tier)
    summary = small_adaptation(device, table, tmp_path / "run", asked).run()
    assert summary["budget_met"]
    found = summary["budget"]["latency"]
    assert found["verdict"] == "met"
    assert found["measured"]["value"] <= found["measured"]["allowed"]
    assert summary["adapted"]["latency_ns"] <= 0.6 * ORIGINAL
    # What was within the budget as predicted was measured to be above it; the rest of the search knew.
    (corrected,) = events(tmp_path / "run", "corrected")
    assert summary["corrected_after"] == [corrected["iteration"]]
    assert summary["iterations"] > corrected["iteration"]
    accepted = events(tmp_path / "run", "accepted")[corrected["iteration"] - 1]
    assert accepted["resources"]["latency"] <= 0.6 * ORIGINAL < corrected["resources"]["latency"]
    assert corrected["corrections"]["latency"]["scale"] == pytest.approx(1.1, abs=1e-4)
    assert summary["adapted"]["predicted_latency_ns"] == pytest.approx(summary["adapted"]["latency_ns"], abs=2)


def test_a_search_whose_predictions_hold_measures_once_and_ends(table: Table, tmp_path: Path) -> None:
    device = ScriptedDevice(float, "local")
    summary = small_adaptation(device, table, tmp_path, options("latency=0.6x")).run()
    assert summary["verdict"] == "met"
    assert summary["corrected_after"] == []
    assert len(events(tmp_path, "compared")) == 1


def test_a_search_that_can_never_be_measured_within_its_budget_ends_and_says_so(table: Table, tmp_path: Path) -> None:
    device = ScriptedDevice(lambda macs: max(macs, 0.9 * ORIGINAL))
    summary = small_adaptation(device, table, tmp_path, options("latency=0.8x", iterations=4)).run()
    assert summary["verdict"] == "not met"
    assert not summary["budget_met"]
    assert summary["budget"]["latency"]["measured"]["value"] == pytest.approx(0.9 * ORIGINAL, abs=1)
    assert len(summary["corrected_after"]) == MOST_CORRECTIONS


def test_an_interval_around_the_budget_is_undecided(table: Table, tmp_path: Path) -> None:
    device = ScriptedDevice(float, "local", half_width=0.2)
    summary = small_adaptation(device, table, tmp_path, options(f"latency={0.6 * ORIGINAL:.0f}ns")).run()
    assert summary["verdict"] == "undecided"
    assert not summary["budget_met"]
    found = summary["budget"]["latency"]["measured"]
    assert found["low"] < found["allowed"] < found["high"]
    # As good as can be told: not shrunk by the 20 % of the noise.
    assert 0.97 * found["allowed"] / 1.15 < found["value"] <= found["allowed"]


def test_every_limited_metric_is_judged(table: Table, tmp_path: Path) -> None:
    asked = options("latency=0.7x", "macs=0.75x", "params=0.9x")
    summary = small_adaptation(ScriptedDevice(narrowed_cost_more(0.05)), table, tmp_path, asked).run()
    assert {metric: budget["verdict"] for metric, budget in summary["budget"].items()} == {
        "latency": "met",
        "macs": "met",
        "params": "met",
    }
    counted = summary["budget"]["macs"]["measured"]
    assert counted["value"] == counted["low"] == counted["high"] == summary["adapted"]["macs"]
    assert counted["allowed"] == 0.75 * ORIGINAL


class Killed(Exception):  # noqa: N818 - a stand-in for a kill
    """Ends a run at an instant."""


class Killer(Observer):
    """Ends the run when it says that its search goes on."""

    def note(self, text: str) -> None:
        if "the search goes on" in text:
            raise Killed


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_that_was_killed_after_a_correction_ends_with_the_same_networks(
    table: Table, tmp_path: Path, strategy: str
) -> None:
    asked = options("latency=0.6x", strategy=STRATEGIES[strategy])
    device = ScriptedDevice(narrowed_cost_more(0.1))
    whole = small_adaptation(device, table, tmp_path / "whole", asked).run()
    with pytest.raises(Killed):
        small_adaptation(device, table, tmp_path / "killed", asked, observer=Killer()).run()
    resumed = small_adaptation(device, table, tmp_path / "killed", asked).run(resume=True)
    assert products(tmp_path / "killed") == products(tmp_path / "whole")
    assert resumed["budget"] == whole["budget"]
    assert resumed["corrected_after"] == whole["corrected_after"]


def test_a_network_is_measured_once_however_often_the_run_is_resumed(table: Table, tmp_path: Path) -> None:
    device = ScriptedDevice(float, "local")
    asked = options("latency=0.6x")
    first = small_adaptation(device, table, tmp_path, asked).run()
    journal = tmp_path / "journal.jsonl"
    journal.write_text(
        "".join(line for line in journal.read_text().splitlines(keepends=True) if "finished" not in line)
    )
    measured, compared = device.networks, device.compared
    again = small_adaptation(device, table, tmp_path, asked).run(resume=True)
    assert (device.networks, device.compared) == (measured, compared)
    assert again["budget"] == first["budget"]
    assert again["speedup"] == first["speedup"]


# --- nothing is measured that nobody asked for ---


def test_for_macs_no_layer_is_measured_and_two_networks_at_the_end(table: Table, tmp_path: Path) -> None:
    device = ScriptedDevice(float, "local")
    summary = small_adaptation(device, table, tmp_path, small_options(["macs=0.6x", "params=0.9x"])).run()
    assert device.layers == 0
    assert device.networks == 2
    assert list(table.entries()) == []
    assert summary["cost"]["measurements"] == 0
    assert summary["prediction"] == {}
    for product in (summary["original"], summary["adapted"]):
        assert product["layers"] == []
        assert "predicted_latency_ns" not in product
        assert product["latency_ns"] == product["macs"]
    assert summary["verdict"] == "met"
    order = [json.loads(line)["event"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert order.index("compared") > order.index("tested")


def test_all_metrics_are_predicted_if_that_is_asked_for(table: Table, tmp_path: Path) -> None:
    asked = small_options(["macs=0.6x"], predicted="all")
    summary = small_adaptation(ScriptedDevice(float), table, tmp_path, asked).run()
    assert [set(entry["predicted"]) for entry in summary["pareto"]] == [{"latency", "macs", "params"}] * len(
        summary["pareto"]
    )
    assert summary["original"]["predicted_latency_ns"] == ORIGINAL
    assert summary["original"]["layers"]


def test_a_run_of_another_version_is_not_resumed(table: Table, tmp_path: Path) -> None:
    asked = options("macs=0.6x")
    small_adaptation(ScriptedDevice(float), table, tmp_path, asked).run()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "schema_version": 1}))
    with pytest.raises(RunError, match="made by an older version of netadapt, so it cannot be resumed"):
        small_adaptation(ScriptedDevice(float), table, tmp_path, asked).run(resume=True)


# --- what is said of it ---


def shown(summary: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the output on the console as one line."""
    print_summary(summary)
    return " ".join(capsys.readouterr().out.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def test_the_console_shows_every_budget_with_its_verdict(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = ScriptedDevice(lambda macs: max(macs, 0.9 * ORIGINAL))
    summary = small_adaptation(device, table, tmp_path, options("latency=0.8x", "params=0.95x", iterations=4)).run()
    text = shown(summary, capsys)
    # 384,064 ns are 0.384 ms; nine tenths of them are 0.346 ms, and 0.307 ms are allowed.
    assert "latency 0.307 ms 0.346 ms exact not met" in text
    assert "latency is above its budget: 0.346 ms measured, 0.307 ms allowed" in text
    assert f"params {0.95 * summary['original']['params'] / 1000:.3f} k" in text
    assert "k exact met" in text
    assert "measured speed-up 1.11x" in text


def test_the_console_says_what_is_undecided_and_inconclusive(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = small_adaptation(ScriptedDevice(float, "local"), table, tmp_path, options("latency=0.6x")).run()
    latency = summary["budget"]["latency"]
    latency |= {"verdict": "undecided", "measured": {**latency["measured"], "value": 0.6, "low": 0.5, "high": 1.2}}
    summary["speedup"] |= {"ratio": 1.67, "low": 0.83, "high": 2.0, "conclusive": False}
    summary["adapted"]["latency_status"] = "contended"
    text = shown(summary, capsys)
    assert "latency 0.600x 0.600x 0.500x to 1.200x undecided" in text
    assert "latency: undecided whether the budget of 0.600x is met" in text
    assert "only known to be between 0.500x and 1.200x" in text
    assert "measured speed-up inconclusive: 1.67x (95 % interval 0.83 to 2.00, interleaved" in text
    assert "on a busy machine" in text


def test_the_console_says_that_latency_was_not_predicted(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(small_adaptation(ScriptedDevice(float), table, tmp_path, options("macs=0.6x")).run(), capsys)
    assert "measured latency 0.384 ms" in text
    assert "predicted latency" not in text
    assert "latency was not predicted, as no budget limits it" in text
    assert "macs 0.230 M" in text


@pytest.mark.parametrize(
    ("ratio", "low", "high", "conclusive"),
    [(0.6, 0.59, 0.61, True), (0.6, 0.6, 0.6, True), (0.98, 0.95, 1.01, False), (0.6, 0.45, 0.75, False)],
)
def test_a_speedup_is_conclusive_if_its_interval_names_a_figure(
    ratio: float, low: float, high: float, conclusive: bool
) -> None:
    said = LatencyRatio(ratio, low, high, "FASTER").speedup()
    assert said["conclusive"] is conclusive
    assert said["ratio"] == 1 / ratio
