"""The report of a real run, as it is at each point of its life."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from page_reader import PageReader

from netadapt.errors import ResultsError, RunError
from netadapt.report.report import write_pictures, write_report
from netadapt.report.run_folder import read_run
from netadapt.report.run_page import command
from netadapt.search.budget import parse_budgets
from netadapt.search.strategy import FAST

pytestmark = pytest.mark.timeout(180)

Edit = Callable[[Callable[[list[dict[str, Any]]], None]], Path]


def _summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = events[-1]["summary"]
    return summary


def test_a_finished_run_tells_what_it_gained_and_where_from(finished_run: Path, tmp_path: Path) -> None:
    page = PageReader(write_report(finished_run, tmp_path / "report.html"))
    summary = json.loads((finished_run / "summary.json").read_text())
    assert f"{summary['speedup']['ratio']:.2f}x" in page.text
    assert f"95 % interval {summary['speedup']['low']:.2f}x to {summary['speedup']['high']:.2f}x" in page.text
    assert {"proposals", "widths", "layers"} <= set(page.ids)
    # Nothing is said of what it was trained on before: it may have started untrained.
    assert "small, adapted for ort-local with the images of sides in" in page.text
    assert "trained on" not in page.text
    assert "tier: local" in page.text
    assert f"onnxruntime {summary['adapted']['provenance']['runtime_version']}" in page.text
    assert summary["adapted"]["provenance"]["machine"] in page.text


def test_the_same_run_gives_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    first = write_report(finished_run, tmp_path / "first.html").read_bytes()
    assert first == write_report(finished_run, tmp_path / "second.html").read_bytes()


def test_the_page_needs_nothing_else_and_runs_nothing(finished_run: Path, tmp_path: Path) -> None:
    path = write_report(finished_run, tmp_path / "report.html")
    page = PageReader(path)
    assert all(reference.startswith("#") for reference in page.references)
    assert "//" not in path.read_text().replace("</", "")
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not page.handlers


def test_identifiers_are_unique_references_lead_somewhere_and_headings_are_in_order(
    finished_run: Path, tmp_path: Path
) -> None:
    page = PageReader(write_report(finished_run, tmp_path / "report.html"))
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.tags.count("figure") == page.tags.count("figcaption")
    assert page.tags.count("table") == page.tags.count("caption")


def test_layers_of_the_summary_add_up_to_its_prediction(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    latency = summary["prediction"]["latency"]
    for product in (summary["original"], summary["adapted"]):
        layers = sum(layer["latency_ns"] for layer in product["layers"])
        predicted = latency["correction"]["scale"] * (latency["fixed_part"] + layers) + latency["correction"]["offset"]
        assert predicted == pytest.approx(product["predicted_latency_ns"], abs=20)
    assert [layer["workload"].split()[0] for layer in summary["original"]["layers"]] == [
        *("conv", "conv", "conv", "global_avg_pool", "linear")
    ]


def test_a_run_in_progress_shows_how_far_it_is(edited_run: Edit, tmp_path: Path) -> None:
    def cut(events: list[dict[str, Any]]) -> None:
        second = [index for index, event in enumerate(events) if event["event"] == "accepted"][1]
        del events[second:]

    folder = edited_run(cut)
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "proposal", "outc')  # being written just now
    page = PageReader(write_report(folder, tmp_path / "report.html"))
    assert "in progress" in page.text
    assert "in 1 iteration so far" in page.text
    assert "measured speed-up" not in page.text
    assert {"proposals", "widths"} <= set(page.ids)
    assert "layers" not in page.ids


def test_a_run_that_has_just_begun_has_a_page_too(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(finished_run / "config.json", tmp_path / "run")
    page = PageReader(write_report(tmp_path / "run", tmp_path / "report.html"))
    assert "in 0 iterations so far" in page.text
    assert "figure" not in page.tags


def test_every_budget_is_shown_with_its_verdict(finished_run: Path, tmp_path: Path) -> None:
    page = PageReader(write_report(finished_run, tmp_path / "report.html"))
    summary = json.loads((finished_run / "summary.json").read_text())
    measured = summary["budget"]["latency"]["measured"]
    assert f"latency 0.850x {measured['value']:.3f}x exact met" in " ".join(page.text.split())


def test_a_budget_that_is_measured_not_to_be_met_is_told_first(edited_run: Edit, tmp_path: Path) -> None:
    def fail(events: list[dict[str, Any]]) -> None:
        above = {"of_original": True, "allowed": 0.85, "value": 0.861, "low": 0.857, "high": 0.866}
        unknown = {"of_original": False, "allowed": 4e6, "value": 3.9e6, "low": 3.6e6, "high": 4.2e6}
        latency = _summary(events)["budget"]["latency"]
        latency.update(measured=above, verdict="not met")
        _summary(events)["budget"]["energy"] = {**latency, "measured": unknown, "verdict": "undecided"}
        _summary(events).update(budget_met=False, verdict="not met", corrected_after=[2])

    text = " ".join(PageReader(write_report(edited_run(fail), tmp_path / "report.html")).text.split())
    assert "The budget of latency is not met: 0.861x measured, 0.850x allowed." in text
    assert "Whether the budget of energy is met is undecided: 3.60 µJ to 4.20 µJ measured, 4.00 µJ allowed." in text
    assert "latency 0.850x 0.861x 0.857x to 0.866x not met" in text
    assert "The network of iteration 2 was within the budget as predicted" in text


def test_a_speedup_that_its_interval_does_not_show_is_inconclusive(edited_run: Edit, tmp_path: Path) -> None:
    def blur(events: list[dict[str, Any]]) -> None:
        _summary(events)["speedup"] = {
            "ratio": 1.1,
            "low": 0.9,
            "high": 1.4,
            "verdict": "AMBIGUOUS",
            "conclusive": False,
        }

    text = PageReader(write_report(edited_run(blur), tmp_path / "report.html")).text
    assert "inconclusive" in text
    assert "1.10x, 95 % interval 0.90x to 1.40x" in text


def test_what_no_budget_limits_was_not_predicted(run_for_macs: Path, tmp_path: Path) -> None:
    page = PageReader(write_report(run_for_macs, tmp_path / "report.html"))
    assert "No budget limits latency, so it was not predicted" in page.text
    assert "prediction off by" not in page.text
    assert "measured speed-up" in page.text
    assert "latency, measured" in page.text
    assert "layers" not in page.ids


def test_a_run_above_its_budget_says_so_and_why(edited_run: Edit, tmp_path: Path) -> None:
    def stop(events: list[dict[str, Any]]) -> None:
        _summary(events).update(budget_met=False, stopped="no group can be narrowed enough")

    page = PageReader(write_report(edited_run(stop), tmp_path / "report.html"))
    assert "stopped above its budget: no group can be narrowed enough" in page.text


def test_doubtful_measurements_and_fallbacks_are_marked(edited_run: Edit, tmp_path: Path) -> None:
    def disturb(events: list[dict[str, Any]]) -> None:
        _summary(events)["adapted"]["latency_status"] = "contended"
        _summary(events)["requested_platform"] = "rpi4-ort"

    page = PageReader(write_report(edited_run(disturb), tmp_path / "report.html"))
    assert "contended" in page.text
    assert "platform ort-local (asked for: rpi4-ort)" in page.text
    assert "Platform rpi4-ort was asked for; ort-local took its place" in page.text


def test_a_summary_of_an_older_version_has_no_layers_but_a_report(edited_run: Edit, tmp_path: Path) -> None:
    def age(events: list[dict[str, Any]]) -> None:
        for product in ("original", "adapted"):
            del _summary(events)[product]["layers"]

    page = PageReader(write_report(edited_run(age), tmp_path / "report.html"))
    assert "layers" not in page.ids
    assert "widths" in page.ids


def test_energy_and_counted_budgets_are_shown_in_their_units(edited_run: Edit, tmp_path: Path) -> None:
    def change(events: list[dict[str, Any]]) -> None:
        for product in ("original", "adapted"):
            energy = {"energy_pj": 4_200_000, "predicted_energy_pj": 4_300_000, "energy_status": "converged"}
            _summary(events)[product].update(energy)
        _summary(events)["budget"]["macs"] = {"limit": 200_000.0, "original": 384_064.0, "predicted": 190_000.0}
        for event in events:
            if event["event"] == "proposal":
                event["outcome"]["proposal"]["resources"]["macs"] = 200_000

    folder = edited_run(change)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "budgets": ["macs=200000"]}))
    page = PageReader(write_report(folder, tmp_path / "report.html"))
    assert "4.20 µJ" in page.text
    assert "predicted MACs, k MACs" in page.text
    assert "small: MACs to 200 k MACs" in page.text


def test_names_are_text_and_nothing_else(edited_run: Edit, tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script> $x^2$ & \"'"

    def rename(events: list[dict[str, Any]]) -> None:
        text = json.dumps(events).replace('"2"', json.dumps(nasty))
        events[:] = json.loads(text)
        _summary(events)["network"] = nasty

    folder = edited_run(rename)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "network": nasty}))
    page = PageReader(write_report(folder, tmp_path / "report.html"))
    assert "script" not in page.tags
    assert f"{nasty}: latency to 0.85x" in page.text


def test_the_command_can_be_typed(edited_run: Edit) -> None:
    folder = edited_run(lambda events: events.clear())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "budgets": ["latency=2.5e+07", "macs=0.5x"]}))
    words = command(read_run(folder)).replace("\\\n", "").split()
    assert words[:3] == ["netadapt", "adapt", "small"]
    given = [words[index + 1] for index, word in enumerate(words) if word == "--budget"]
    assert [str(budget) for budget in parse_budgets(given)] == ["latency=2.5e+07", "macs=0.5x"]


def test_the_command_asks_for_the_strategy(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fast"
    shutil.copytree(finished_run, folder)
    # Not the default: without the option the command would make another run.
    assert "--strategy paper" in command(read_run(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "strategy": asdict(FAST)}))
    assert "--strategy fast" in command(read_run(folder))
    write_report(folder, tmp_path / "fast.html")
    assert "Iterations narrow about 4 channel groups" in (tmp_path / "fast.html").read_text()


def test_pictures_stand_alone(finished_run: Path, tmp_path: Path) -> None:
    paths = write_pictures(finished_run, tmp_path / "pictures")
    assert [path.name for path in paths] == ["proposals.svg", "widths.svg", "layers.svg"]
    for path in paths:
        text = path.read_text()
        assert "prefers-color-scheme: dark" in text
        assert "tier: local" in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


# --- bad input ---


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ResultsError, match="neither the folder of a run"):
        write_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(ResultsError, match="no such file or folder"):
        write_report(tmp_path / "absent", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{garbage}\n", "line 2: not a journal entry"),
        (b'{"event": "unheard-of"}\n', "line 2: not a journal entry"),
        (b'{"event": "accepted", "iteration": "one"}\n', "line 2: not a journal entry"),
        (b"\xff\xfe\n", "line 2: not a journal entry"),
    ],
)
def test_a_damaged_journal_is_told_with_its_line(finished_run: Path, tmp_path: Path, line: bytes, fault: str) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], line, *lines[2:]]))
    out = tmp_path / "report.html"
    out.write_text("the last report")
    with pytest.raises(RunError, match=fault):
        write_report(tmp_path / "run", out)
    assert out.read_text() == "the last report"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"schema_version": 99}', "has schema_version 99, this netadapt reads 2; update netadapt"),
        ('{"schema_version": 1}', r"not the configuration of a run \(network: missing"),
        ('{"schema_ver', "damaged"),
        ("[1]", "not the configuration of a run"),
    ],
)
def test_a_configuration_that_is_none_is_told(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=fault):
        write_report(tmp_path, tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_told(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="the report cannot be written there"):
        write_report(finished_run, tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_whose_workers_were_a_cluster_has_a_report(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    shutil.copytree(finished_run, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "workers": "ray://head:10001"}))
    assert read_run(folder).config.workers == "ray://head:10001"
