import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import netadapt
from netadapt.cli import EXIT_ABOVE_BUDGET, EXIT_ERROR, app
from netadapt.measure.lock import MeasuringLock, machine_lock_path
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.weight_files import find_bundled

ADAPT = ["adapt", "mobilenet_v1:0.5@32", "--data", "fashion-mnist-mini"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def run_json(*arguments: object) -> object:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table") / "table.sqlite"


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = "torch", "onnx", "onnxruntime", "numpy", "pydantic", "rich"
    code = f"import sys, netadapt.cli; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_the_package_is_a_command_too_and_shells_can_complete_it() -> None:
    environment = {
        **os.environ,
        "_NETADAPT_COMPLETE": "complete_bash",
        "COMP_WORDS": "netadapt lut ",
        "COMP_CWORD": "2",
    }
    code = "from netadapt.cli import app; app(prog_name='netadapt')"
    run_it = {"capture_output": True, "text": True, "check": True}
    completed = subprocess.run([sys.executable, "-c", code], env=environment, **run_it).stdout.split()
    assert {"build", "show", "compare", "export", "import", "accuracy"} == set(completed)
    assert "Usage: " in subprocess.run([sys.executable, "-m", "netadapt", "lut", "--help"], **run_it).stdout


def test_the_package_shows_what_it_offers_and_is_light() -> None:
    code = "import sys, netadapt; print('torch' in sys.modules, netadapt.Task.__name__, netadapt.Table.__name__)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False Task Table\n"
    assert {"adapt", "AdaptedNetwork", "open_device", "Measurement", "errors", "Dataset"} <= set(dir(netadapt))
    assert all(hasattr(netadapt, name) for name in dir(netadapt))


def test_every_command_has_a_help_text() -> None:
    for name in ("adapt", "measure", "lut", "platforms", "train", "evaluate", "data", "export"):
        result = run(name, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*ADAPT, "--budget", "macs=1G"], "met already"),
        (
            [*ADAPT, "--budget", "macs=0.5x", "--initial-reduction", "0.01", "--iterations", "5"],
            "the schedule cannot reach the budget",
        ),
    ],
)
def test_a_budget_that_makes_no_sense_is_told_in_one_line_with_exit_code_2(
    arguments: list[str], complaint: str, tmp_path: Path, table: Path
) -> None:
    result = run(*arguments, "--out", tmp_path / "run", "--table", table)
    assert result.exit_code == EXIT_ERROR
    assert complaint in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "run" / "weights").exists() or "budget" in complaint or "met already" in complaint


def test_all_faults_of_a_definition_are_told_with_their_fields(tmp_path: Path) -> None:
    definition = tmp_path / "mine.toml"
    definition.write_text('schema_version = 1\nname = "mine"\ntier = "guessed"\nwidth_multiple = 0\n')
    result = run("platforms", "show", definition)
    assert result.exit_code == EXIT_ERROR
    for field in ("title", "tier", "transport", "runtime", "width_multiple", "card"):
        assert field in result.stderr


def test_platforms_are_listed_shown_and_checked() -> None:
    listed = run_json("platforms", "list")
    assert {"name": "ort-local", "tier": "local", "title": "ONNX Runtime on this machine, one thread"} in listed
    shown = run_json("platforms", "show", "ort-local")
    assert shown["tier"] == "local"
    assert len(shown["fingerprint"]) == 16
    assert "ort-local" in run("platforms", "check", "ort-local").stdout


def test_a_network_is_exported_and_measured(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    assert run("export", "mobilenet_v1:0.25@32", "--classes", 10, "--out", model).exit_code == 0
    measured = run_json("measure", model)
    latency = measured["metrics"]["latency"]
    assert (latency["unit"], latency["tier"]) == ("ns", "local")
    assert latency["value"] > 0
    assert latency["provenance"]["platform"] == "ort-local"
    assert "tier: local" in run("measure", model).stdout


def test_two_models_are_compared(tmp_path: Path) -> None:
    compared = run_json("measure", "mobilenet_v1:0.25@32", "mobilenet_v1:1.0@32")
    assert compared["verdict"] == "SLOWER"
    assert compared["speedup"]["low"] <= compared["speedup"]["ratio"] <= compared["speedup"]["high"] < 1


def test_one_model_on_one_platform_twice_is_compared() -> None:
    compared = run_json("measure", "mobilenet_v1:0.25@32", "--platform", "ort-local", "--platform", "ort-local")
    assert compared["low"] < compared["high"]
    assert compared["a_platform"] == compared["b_platform"] == "ort-local"


def test_three_models_are_too_many() -> None:
    assert run("measure", "a.onnx", "b.onnx", "c.onnx").exit_code == EXIT_ERROR


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12\x00"])
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "broken.onnx"
    model.write_bytes(content)
    result = run("measure", model)
    assert result.exit_code == EXIT_ERROR
    assert "broken.onnx" in result.stderr


def test_the_table_is_built_shown_exported_and_imported(tmp_path: Path) -> None:
    table = tmp_path / "table.sqlite"
    network = ["mobilenet_v1:0.25@32", "--classes", 10, "--channels", 1]
    built = run_json("lut", "build", *network, "--points", 1, "--table", table)
    # 29 layers; a pair of them (depthwise, pointwise) comes five times; and the empty run.
    assert built["measured"] == built["requested"] == 29 - 8 + 1
    # On a busy machine some are contended, and measured again.
    assert run_json("lut", "build", *network, "--points", 1, "--table", table)["measured"] <= built["contended"]
    with MeasuringLock(machine_lock_path()).held():  # reading does not wait for who measures
        shown = run_json("lut", "show", *network, "--table", table, "--no-correction")
    assert len(shown["layers"]) == 29
    total = sum(layer["latency_ns"] for layer in shown["layers"]) + shown["fixed_part_ns"]
    assert shown["predicted_latency_ns"] == pytest.approx(total)
    other = run("lut", "show", "mobilenet_v1:0.5@32", "--table", table)
    assert other.exit_code == EXIT_ERROR
    # The empty run alone is in both.
    assert "21 of 22 entries are missing for mobilenet_v1:0.5@32 on ort-local; add --measure" in other.stderr
    exported = tmp_path / "table.json"
    assert run("lut", "export", exported, "--table", table).exit_code == 0
    result = run("lut", "import", exported, "--table", tmp_path / "other.sqlite")
    entries = sum(kind["entries"] for kind in run_json("lut", "show", "--table", table)["kinds"])
    assert f"{entries} entries added" in result.stdout


def test_accuracy_is_told_with_its_noise_floor(table: Path) -> None:
    told = run_json("lut", "accuracy", "mobilenet_v1:0.25@32", "--classes", 10, "--networks", 4, "--table", table)
    assert len(told["samples"]) == 4
    assert told["correction"]["networks"] == 8
    assert told["mape"] >= abs(told["bias"])
    assert told["noise_floor"] >= 0
    assert told["conclusive"] == (told["noise_floor"] <= 0.05)


def test_a_network_is_evaluated_with_its_bundled_weights() -> None:
    told = run_json("evaluate", "mobilenet_v1:0.5@32", "--data", "fashion-mnist-mini")
    assert told["count"] == 2000
    assert told["score"] > 0.92
    assert (
        run("evaluate", "mobilenet_v1@32", "--data", "fashion-mnist-mini", "--split", "train").exit_code == EXIT_ERROR
    )


def test_weights_that_do_not_fit_name_the_layers(tmp_path: Path) -> None:
    weights = find_bundled(NetworkSpec("mobilenet_v1", 0.5, 32), "fashion-mnist").path
    result = run("evaluate", "mobilenet_v1:0.25@32", "--data", "fashion-mnist-mini", "--weights", weights)
    assert result.exit_code == EXIT_ERROR
    assert "features.0" in result.stderr


@pytest.mark.timeout(240)
def test_adapt_on_the_real_data_resumes_and_reports(tmp_path: Path, table: Path) -> None:
    arguments = [*ADAPT, "--budget", "macs=0.93x", "--iterations", 1, "--steps", 1, "--long-steps", 2]
    arguments += ["--out", tmp_path / "run", "--table", table, "--workers", 2]
    summary = run_json(*arguments)
    assert summary["adapted"]["macs"] <= 0.93 * summary["original"]["macs"]
    again = run(*arguments)
    assert again.exit_code == EXIT_ERROR
    assert "--resume" in again.stderr
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0
    assert "measured speed-up" in resumed.stdout
    other = run(*arguments, "--resume", "--seed", 5)
    assert other.exit_code == EXIT_ERROR
    assert "is a run with other options: --seed was 0, now 5. Resume it" in other.stderr


FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 48, 3, stride=4, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(48, 32, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ), torch.zeros(1, 1, 32, 32)
"""


def test_a_users_network_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_trained.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    # 17 batches.
    trained = run(
        *[
            "train",
            "my_trained:make",
            "--data",
            "fashion-mnist-mini",
            "--epochs",
            "1",
            "--batch",
            "500",
            "--out",
            "w.safetensors",
        ]
    )
    assert trained.exit_code == 0, trained.output
    assert "epoch 1 of 1: loss" in trained.stderr
    assert "w.safetensors: test accuracy" in trained.stdout
    evaluated = ["evaluate", "my_trained:make", "--data", "fashion-mnist-mini", "--weights", "w.safetensors"]
    assert run_json(*evaluated)["score"] > 0.2


def test_a_users_network_that_gets_stuck_above_its_budget_has_an_exit_code_of_its_own(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    # 16 of each is the least: 9,216 + 36,864 + 4,096 + 160 = 50,336 of 384,320. In two iterations only two of the three
    # groups get there, and then the third one costs too much.
    result = run(
        *["adapt", "my_networks:make", "--data", "fashion-mnist-mini", "--budget", "macs=0.14x", "--iterations", 2],
        *["--steps", 1, "--long-steps", 1, "--workers", 1, "--out", tmp_path / "run", "--table", table, "--json"],
        *["--strategy", "paper"],
    )
    assert result.exit_code == EXIT_ABOVE_BUDGET == 3, result.output
    summary = json.loads(result.stdout)
    assert summary["network"] == "my_networks:make"
    assert not summary["budget_met"]
    assert "no group can be narrowed enough" in summary["stopped"]
