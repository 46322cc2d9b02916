"""The effect of two busy processes on the demo: its time, its table, its speed-up."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt.lut.store import Table
from netadapt.measure import machine, statistics
from netadapt.measure.measurement import Measurement
from netadapt.network.workload import Workload

ROOT = Path(__file__).parents[2]
#: Beside two workers on two cores, two busy processes leave half of each.
BUSY_PROCESSES = 2
MOST_TIMES_AS_LONG = 2.5
MOST_ERROR = 0.10


def test_the_demo_on_a_busy_machine(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """`tox -e demo`, installed already and with an empty table, alone and then beside two busy processes."""
    if machine.cores() != 2:
        pytest.skip("its figures are of two cores")
    quiet_s = demo(tmp_path / "quiet")
    with busy(BUSY_PROCESSES):
        busy_s = benchmark.pedantic(lambda: demo(tmp_path / "busy"), rounds=1)
        again = speedup(tmp_path / "quiet")
    before = json.loads((tmp_path / "quiet" / "run" / "summary.json").read_text())["speedup"]
    errors = [
        abs(busy_cost.value / quiet_cost.value - 1)
        for quiet_cost, busy_cost in shared(tmp_path / "quiet", tmp_path / "busy")
    ]
    benchmark.extra_info.update(
        quiet_seconds=round(quiet_s, 1),
        busy_seconds=round(busy_s, 1),
        times_as_long=round(busy_s / quiet_s, 2),
        entries=len(errors),
        median_error=round(statistics.median(errors), 4),
        p90_error=round(statistics.quantile(errors, 0.9), 4),
        speedup_quiet=round(before["ratio"], 3),
        speedup_busy=[round(again[name], 3) for name in ("ratio", "low", "high")],
        comparison_busy=again["status"],
    )
    assert busy_s <= MOST_TIMES_AS_LONG * quiet_s
    assert statistics.median(errors) <= MOST_ERROR
    assert again["low"] <= before["ratio"] <= again["high"] or again["status"] == "contended"


def demo(folder: Path) -> float:
    """Seconds that the demo takes; its run and its table are in `folder` then."""
    folder.mkdir()
    arguments = demo_arguments()
    arguments[arguments.index("--out") + 1] = str(folder / "run")
    started = time.perf_counter()
    netadapt(*arguments, "--table", str(folder / "table.sqlite"))
    return time.perf_counter() - started


def demo_arguments() -> list[str]:
    """Return the arguments of the demo in tox.ini."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini")
    commands = settings["testenv:demo"]["commands"].replace("\\\n", " ").strip().splitlines()
    return [argument for argument in shlex.split(commands[0])[1:] if argument not in ("--resume", "{posargs}")]


def speedup(folder: Path) -> dict[str, Any]:
    """The speed-up of a finished run's network, measured again."""
    models = [str(folder / "run" / "onnx" / name) for name in ("iteration-00.onnx", "adapted.onnx")]
    comparison = json.loads(netadapt("measure", *models, "--json"))
    return {**comparison["speedup"], "status": comparison["status"]}


def netadapt(*arguments: str) -> str:
    """Run a command as the demo does; what it prints to its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "netadapt", *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment).stdout


def shared(*folders: Path) -> list[tuple[Measurement, ...]]:
    """Entries that all tables have."""
    found: list[dict[Workload, Measurement]] = []
    for folder in folders:
        with Table.open(folder / "table.sqlite") as table:
            found.append({entry.workload: entry.measurement for entry in table.entries()})
    return [tuple(entries[workload] for entries in found) for workload in found[0] if workload in found[1]]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep some processes busy meanwhile, at equal priority."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
