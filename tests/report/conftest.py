from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_chromium
from sample_results import write_sample

# A real run takes the network, data and options that the tests of the search are made with.
sys.path.append(str(Path(__file__).parents[1] / "search"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run by a made-up clock, so that it takes three iterations; of which no test may change anything."""
    return _run(tmp_path_factory.mktemp("report"), "latency=0.85x")


@pytest.fixture(scope="session")
def run_for_macs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a budget of MACs: latency was measured at its end only."""
    return _run(tmp_path_factory.mktemp("report"), "macs=0.85x")


def _run(folder: Path, budget: str) -> Path:
    from scripted_device import ScriptedDevice
    from small_search import small_adaptation, small_options

    from netadapt.lut.store import Table

    with Table.open(folder / "table.sqlite") as table:
        small_adaptation(ScriptedDevice(float, "local"), table, folder / "run", small_options([budget])).run()
    return folder / "run"


@pytest.fixture
def edited_run(finished_run: Path, tmp_path: Path) -> Callable[[Callable[[list[dict[str, Any]]], None]], Path]:
    """Makes a copy of the run whose journal was changed by a function."""

    def edit(change: Callable[[list[dict[str, Any]]], None]) -> Path:
        folder = tmp_path / "edited"
        shutil.copytree(finished_run, folder)
        journal = folder / "journal.jsonl"
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        change(events)
        journal.write_text("".join(json.dumps(event) + "\n" for event in events))
        return folder

    return edit


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all cases on one simulated platform: the platform's folder."""
    return write_sample(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("there is no chromium on this machine (on Debian: apt-get install chromium)")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
