"""A benchmark suite of its own: two tiny cases, run by real pytest processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

REGISTRY = """
[first]
version = 1
title = "The reference model"

[first.smoke]
rounds = 1

[first.quick]
rounds = 7

[first.full]
rounds = 9

[second]
version = 3
title = "Waits and fails as it is told"
tiers = ["local", "device"]

[second.smoke]
rounds = 1

[second.quick]
rounds = 7

[second.full]
rounds = 9
"""

#: Each leaves a line in `runs` whenever it is run.
CASE = """
from netadapt.errors import MeasurementError
import time
from contextlib import nullcontext
from pathlib import Path

import onnx

import netadapt
from bench.case import Bench, Findings
from bench.reference_model import reference_model
from bench.speed.slowed import slowed
from bench.timing import measure_latency
from netadapt.results.schema import Figure

CONTROL = Path({control!r})


def one_more_layer(model: bytes) -> bytes:
    # The reference itself is never slowed.
    changed = onnx.load_from_string(model)
    changed.graph.node.append(onnx.helper.make_node("Relu", ["scores"], ["likely"]))
    changed.graph.output[0].name = "likely"
    return changed.SerializeToString()


def run(bench: Bench) -> Findings:
    bench.observer.stage("timing the reference model")
    with (CONTROL / "runs").open("a") as runs:
        runs.write(f"{{bench.case.id}} {{bench.case.profile}} {{bench.device.platform.name}} {{netadapt.__file__}}\\n")
    (bench.session / "measured").write_text("by this run")
    while (CONTROL / f"wait-{{bench.case.id}}").exists():
        time.sleep(0.05)
    if (CONTROL / f"fail-{{bench.case.id}}").exists():
        raise MeasurementError("the device caught fire")
    model, rounds = one_more_layer(reference_model()), bench.case.parameters["rounds"]
    with slowed(bench.device, 0.2) if (CONTROL / f"slow-{{bench.case.id}}").exists() else nullcontext():
        timed = measure_latency(bench.device, {{"latency": model}}, rounds)
    took = Figure(value=1.5, unit="s", better="lower", origin="measured", tolerance=1.0)
    return Findings(timed, {{"rounds": (1, 2)}}, "latency", host_figures={{"wall": took}})
"""


@dataclass(frozen=True)
class Suite:
    """The folders of a suite, and how it is run."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def runs(self) -> list[str]:
        """Which case was run on which platform, as often as it was."""
        lines = (self.control / "runs").read_text().splitlines() if (self.control / "runs").exists() else []
        return [" ".join(line.split()[:3]) for line in lines]

    def files(self, platform: str = "ort-local") -> list[Path]:
        """Results by the clock of a platform, in the order in which they were written."""
        paths = (self.results / platform).glob("*-*.json")
        runs = [path for path in paths if not path.name.endswith(".host.json")]
        return sorted(runs, key=lambda path: path.stat().st_mtime_ns)

    def command(self, *arguments: str) -> list[str]:
        registry = self.folder / "own_suite" / "cases.toml"
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--registry={registry}", *arguments]

    def benchmark(self, *options: str) -> list[str]:
        return self.command(
            "--benchmark",
            *(f"--{name}={self.folder / name}" for name in ("results", "work") if f"--{name}" not in options),
            *options,
        )

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.call(self.benchmark(*options))

    def call(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        with self.started(command, **environment) as process:
            output, errors = process.communicate(timeout=100)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    @contextmanager
    def started(self, command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A process that is ended with the block, whatever happens."""
        # With a lock of its own, so that tests do not wait for somebody who measures.
        variables = {**os.environ, "TMPDIR": str(self.folder), **environment}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=variables) as process:
            try:
                yield process
            finally:
                process.kill()

    def contents(self, platform: str, clock: str = "platform") -> list[dict]:
        """The results of a platform, in the order of their names."""
        paths = sorted((self.results / platform).glob("*-*.json"))
        return [content for path in paths if (content := json.loads(path.read_text()))["clock"] == clock]


@dataclass(frozen=True)
class Finished:
    """A suite that was run, what the run said, and what pytest-benchmark stored."""

    suite: Suite
    process: subprocess.CompletedProcess[str]
    stored: dict


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def make_suite(folder: Path) -> Suite:
    cases = folder / "own_suite" / "cases"
    cases.mkdir(parents=True)
    (folder / "control").mkdir()
    (folder / "own_suite" / "cases.toml").write_text(REGISTRY)
    for path in (cases.parent / "__init__.py", cases / "__init__.py"):
        path.touch()
    for name in ("first", "second"):
        (cases / f"{name}.py").write_text(CASE.format(control=str(folder / "control")))
    return Suite(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, installation: object) -> Finished:
    """A run on both default platforms that ended well; not to be changed."""
    suite = make_suite(tmp_path_factory.mktemp("finished"))
    stored = suite.folder / "stored.json"
    done = suite.run(f"--benchmark-json={stored}")
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(suite, done, json.loads(stored.read_text()))
