"""Run folders and results that anyone may have edited: going on with them, and making reports of them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fuzzing import Fuzz
from mutations import HOSTILE_TEXTS, mutated_bytes, mutated_value
from run_documents import CONFIG, COSTS, ORIGINAL, events, write_run

from netadapt.report.report import write_pictures, write_report
from netadapt.results.files import layout, seal
from netadapt.search.outcome import State
from netadapt.search.run import RunFolder

sys.path.append(str(Path(__file__).parents[1] / "report"))
from sample_results import write_sample


def damaged_run(generator: random.Random, folder: Path) -> Path:
    """A run folder in which something was changed: values, lines, or bytes; of a finished run or one in progress."""
    run = folder / "run"
    lines = events()[: generator.choice((1, 3, 4, 6, 7, 8, 99))]
    config: Any = CONFIG
    match generator.randrange(4):
        case 0:
            config = mutated_value(CONFIG, generator)
        case 1:
            first, second = (generator.randrange(len(lines)) for _ in range(2))
            lines[first], lines[second] = lines[second], lines[first]
            del lines[generator.randrange(len(lines))]
        case 2:
            place = generator.randrange(len(lines))
            lines[place] = mutated_value(lines[place], generator)
    write_run(run, lines, config)
    if generator.random() < 0.3:
        path = run / generator.choice(("config.json", "journal.jsonl"))
        path.write_bytes(mutated_bytes(path.read_bytes(), generator))
    return run


def go_on(run: Path) -> None:
    original = State(0, ORIGINAL, COSTS, 0.9, 0.3, run / "weights" / "iteration-00.safetensors")
    with RunFolder.open(
        run, {name: value for name, value in CONFIG.items() if name != "schema_version"}, True
    ) as folder:
        folder.state(original)
        folder.outcomes(0)


def test_a_sound_run_can_be_resumed_and_reported(tmp_path: Path) -> None:
    for count in range(len(events()) + 1):
        run = tmp_path / str(count)
        write_run(run, events()[:count])
        if count > 6:
            go_on(run)
        write_report(run, run / "report.html")


def test_damaged_runs_are_not_resumed(fuzz: Fuzz) -> None:
    fuzz(lambda generator, folder: go_on(damaged_run(generator, folder)), quick=150, full=4000)


def test_damaged_runs_have_a_report_or_are_refused(fuzz: Fuzz) -> None:
    def report(generator: random.Random, folder: Path) -> None:
        check_report(damaged_run(generator, folder), folder)

    fuzz(report, quick=25, full=1000)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The contents of results files, without their seals."""
    folder = write_sample(tmp_path_factory.mktemp("results"))
    contents = [json.loads(path.read_text()) for path in sorted(folder.glob("20*.json"))]
    return [{name: value for name, value in content.items() if name != "seal"} for content in contents]


def test_sealed_results_with_odd_figures_have_a_report_or_are_refused(fuzz: Fuzz, sealed: list[dict[str, Any]]) -> None:
    def report(generator: random.Random, folder: Path) -> None:
        content = generator.choice(sealed)
        case = generator.choice(content["cases"])
        odd = {**content, "cases": [mutated_value(case, generator)]}
        if generator.random() < 0.2:
            field = generator.choice(list(content))
            odd = {**content, field: mutated_value(content[field], generator)}
        path = folder / "2026-11-24-0123abcd4567.json"
        try:
            path.write_text(layout({**odd, "seal": seal(odd)}))
        except (ValueError, RecursionError):
            return  # nothing that JSON can hold
        check_report(path, folder)

    fuzz(report, quick=25, full=2000)


def check_report(source: Path, folder: Path) -> None:
    """Write the report and its pictures; they have to be text that a browser takes, with every name escaped."""
    page = write_report(source, folder / "report.html").read_text()
    assert "<script>" not in page
    for picture in write_pictures(source, folder / "pictures"):
        ElementTree.parse(picture)


@pytest.mark.parametrize("text", [text for text in HOSTILE_TEXTS if len(text) < 100 and text != "\ud800"], ids=ascii)
def test_names_of_any_characters_can_be_shown(tmp_path: Path, text: str) -> None:
    def renamed(value: Any) -> Any:
        return json.loads(
            json.dumps(value).replace("conv.2", json.dumps(text)[1:-1]).replace("conv 3", json.dumps(text)[1:-1])
        )

    write_run(tmp_path / "run", renamed(events()), {**CONFIG, "network": text, "data": text, "platform": text})
    check_report(tmp_path / "run", tmp_path)


@pytest.mark.parametrize("latency_ns", [0.0, 5e-324, 1e15])
def test_layers_of_any_latency_have_a_picture(tmp_path: Path, latency_ns: float) -> None:
    lines = events()
    for product in ("original", "adapted"):
        for layer in lines[-1]["summary"][product]["layers"]:
            layer["latency_ns"] = latency_ns
    write_run(tmp_path / "run", lines)
    check_report(tmp_path / "run", tmp_path)
