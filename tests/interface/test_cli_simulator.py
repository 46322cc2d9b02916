"""What the command line shows of simulated cores."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from netadapt.cli import EXIT_ERROR, app
from netadapt.measure.simulator.install import installed

PLATFORM = "sim-cortex-a53"
NETWORK = "mobilenet_v1:0.25@32"


@pytest.fixture
def simulator() -> None:
    if installed() is None:
        pytest.skip("the simulator is not set up: run netadapt platforms setup sim-cortex-a72")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})


def run_json(*arguments: object) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("simulator")
def test_a_network_is_measured_with_everything_that_is_counted() -> None:
    told = run_json("measure", NETWORK, "-p", PLATFORM)
    latency, energy = told["metrics"]["latency"], told["metrics"]["energy"]
    for cost, unit in ((latency, "ns"), (energy, "pJ")):
        assert (cost["unit"], cost["tier"], cost["samples"], cost["mad"]) == (unit, "simulated", 1, 0)
        assert cost["provenance"]["platform"] == PLATFORM
        assert cost["provenance"]["runtime"] == "onnxruntime"
        assert "Cortex-A53" in cost["provenance"]["machine"]
    details = told["details"]
    assert latency["value"] == round(details["cycles"] * 1000 / details["mhz"])
    assert details["instructions_per_cycle"] == details["instructions"] / details["cycles"]
    assert len(details["caches"]) == 2
    assert all(level["hits"] > 0 and level["misses"] > 0 for level in details["caches"])
    assert details["dram_lines_read"] > 0
    assert sum(details["mix"].values()) == details["instructions"]
    assert sum(details["energy_parts_pj"].values()) == pytest.approx(energy["value"], abs=10)
    assert "layers" not in told


@pytest.mark.usefixtures("simulator")
def test_two_runs_show_the_same() -> None:
    first, second = (run("measure", NETWORK, "-p", PLATFORM) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    for words in ("latency", "energy", "tier: simulated, deterministic", "instructions", "misses of L1"):
        assert words in first.stdout


@pytest.mark.usefixtures("simulator")
def test_a_profile_shows_where_the_time_goes() -> None:
    network = "mobilenet_v1:0.25@96"
    told = run_json("measure", network, "-p", PLATFORM, "--profile")
    layers = told["layers"]
    # 27 convolutions, a pool and a linear layer, at least.
    assert len(layers) >= 29
    assert sum(layer["latency_ns"] for layer in layers) == pytest.approx(told["metrics"]["latency"]["value"], rel=0.1)
    assert all(set(layer) == {"name", "op", "cycles", "latency_ns"} for layer in layers)
    shown = run("measure", NETWORK, "-p", PLATFORM, "--profile").stdout
    assert "Where the time goes (tier: simulated)" in shown
    # The same network, smaller: a share for each of the same layers.
    assert shown.count("%") == len(layers)


def test_a_clock_alone_cannot_tell_where_the_time_goes() -> None:
    result = run("measure", NETWORK, "--profile")
    assert result.exit_code == EXIT_ERROR
    assert "platform ort-local cannot tell where the time of a run goes; a simulated one can" in result.stderr


@pytest.mark.usefixtures("simulator")
def test_two_networks_are_compared_without_noise() -> None:
    told = run_json("measure", NETWORK, "mobilenet_v1:0.5@32", "-p", PLATFORM)
    speedup = told["speedup"]
    assert speedup["low"] == speedup["ratio"] == speedup["high"] < 1
    assert (told["verdict"], told["tier"]) == ("SLOWER", "simulated")


@pytest.mark.usefixtures("simulator")
def test_simulated_and_local_are_not_compared() -> None:
    result = run("measure", NETWORK, "-p", PLATFORM, "-p", "ort-local")
    assert result.exit_code == EXIT_ERROR
    assert "are of different tiers; their numbers must not be compared" in result.stderr


@pytest.mark.usefixtures("simulator")
def test_every_part_of_the_set_up_is_checked() -> None:
    result = run("platforms", "check", "sim-cortex-a72", "--json")
    assert result.exit_code == 0
    checks = {check["what"]: check for check in json.loads(result.stdout)}
    assert {"QEMU with plugins", "timing plugin", "arm64 userland", "aarch64 wheels", "core"} < set(checks)
    assert "an empty run takes" in checks["measuring"]["detail"]
    assert "ok" in run("platforms", "check", "sim-cortex-a72").stdout


def test_without_the_set_up_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run("measure", NETWORK, "-p", PLATFORM)
    assert result.exit_code == EXIT_ERROR
    assert f"netadapt platforms setup {PLATFORM}" in result.stderr
    checked = run("platforms", "check", PLATFORM)
    assert checked.exit_code == 1
    assert "missing" in checked.stdout


DEFINITION = """
schema_version = 1
name = "mine"
title = "A core of my own"
tier = "simulated"
transport = "qemu"
core = "{core}"
width_multiple = 8
card = "For a test."
[runtime]
name = "ort"
"""


def test_an_unknown_core_of_a_platform(tmp_path: Path) -> None:
    definition = tmp_path / "mine.toml"
    definition.write_text(DEFINITION.format(core="cortex-a999"))
    for command in (["measure", NETWORK, "-p"], ["platforms", "show"]):
        result = run(*command, definition)
        assert result.exit_code == EXIT_ERROR
        assert "unknown core 'cortex-a999'; choose one of:" in result.stderr
    checked = run("platforms", "check", definition)
    assert checked.exit_code == 1
    assert "cortex-a999" in checked.stdout


def test_a_core_file_with_faults(tmp_path: Path) -> None:
    core = tmp_path / "core.toml"
    core.write_text('extends = "cortex-a72"\nname = "mine"\n[clock]\nmhz = { value = 0, source = "a test" }\n')
    definition = tmp_path / "mine.toml"
    definition.write_text(DEFINITION.format(core=core))
    result = run("measure", NETWORK, "-p", definition)
    assert result.exit_code == EXIT_ERROR
    assert "clock.mhz.value" in result.stderr


def test_published_latencies_that_cannot_be_read(tmp_path: Path) -> None:
    result = run("simulator", "fidelity", "--csv", tmp_path / "missing.csv")
    assert result.exit_code == EXIT_ERROR
    assert "missing.csv: cannot be read as text" in result.stderr
    published = tmp_path / "boards.csv"
    published.write_text("board,core,mhz,dtype,mobilenet_v1\nB,cortex-a72,fast,float32,1\n")
    result = run("simulator", "fidelity", "--csv", published)
    assert result.exit_code == EXIT_ERROR
    assert "line 2, mhz" in result.stderr


@pytest.mark.usefixtures("simulator")
def test_published_latencies_are_shown_beside_simulated_ones(tmp_path: Path) -> None:
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    published = tmp_path / "boards.csv"
    published.write_text(f"board,core,mhz,dtype,{NETWORK}\nSome board,cortex-a72,1500,float32,1.5\n")
    told = run_json("simulator", "fidelity", "--csv", published)
    (entry,) = told["comparisons"]
    assert (entry["board"], entry["model"], entry["fitted"]) == ("Some board", "cortex-a72", [])
    assert entry["error"] == pytest.approx(entry["simulated_ms"] / 1.5 - 1)
    assert told["mean_absolute_error"] == abs(entry["error"]) == told["mean_absolute_error_by_core"]["cortex-a72"]
    assert told["tier"] == "simulated"
    shown = run("simulator", "fidelity", "--csv", published).stdout
    assert "Some board" in shown
    assert "mean absolute error of the float32 rows" in shown
