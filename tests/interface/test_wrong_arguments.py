"""Every command, with each kind of wrong argument: one line, exit code 2, at once, and nothing heavy imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ADAPT = "adapt mobilenet_v1:0.5@32 --data fashion-mnist-mini --budget macs=0.6x --out run"
TRAIN = "train mobilenet_v1:0.25@32 --data fashion-mnist-mini --out w.safetensors"

#: What is typed, and a part of what is said about it. Files are described in `_make_files`.
WRONG = [
    ("adapt", "Missing argument 'network' (see netadapt adapt --help)"),
    ("adapt mobilenet_v1@32 --data fashion-mnist-mini --budget macs=0.6x", "Missing option '--out'"),
    (f"{ADAPT} --budgets macs=0.5x", "No such option: --budgets"),
    (f"{ADAPT} --network x", "No such option: --network"),
    (f"{ADAPT} --budget speed=0.6x", "unknown metric 'speed'"),
    (f"{ADAPT} --budget latency=0.6", "0.6"),
    (f"{ADAPT} --budget latency", "is not METRIC=AMOUNT"),
    (f"{ADAPT} --budget energy=0.6x", "unknown metric of platform ort-local 'energy'"),
    (f"{ADAPT} --budget latency=1.2x", "met already"),
    (f"{ADAPT} --selection luck", "unknown selection rule 'luck'"),
    (f"{ADAPT} --strategy greedy", "unknown strategy 'greedy'"),
    (f"{ADAPT} -p pixel-9", "unknown platform 'pixel-9'"),
    (f"{ADAPT} -p missing.toml", "missing.toml: there is no such"),
    (f"{ADAPT} --iterations 0", "at least 1 is needed"),
    (f"{ADAPT} --decay 2", "a decay of 2"),
    (f"{ADAPT} --decay nan", "a decay of nan"),
    (f"{ADAPT} --initial-reduction 1.5", "an initial reduction of 1.5"),
    (f"{ADAPT} --steps -1", "Invalid value for '--steps'"),
    (f"{ADAPT} --long-steps -1", "Invalid value for '--long-steps'"),
    (f"{ADAPT} --steps many", "Invalid value for '--steps'"),
    (f"{ADAPT} --lr -0.1", "a learning rate of -0.1"),
    (f"{ADAPT} --long-lr inf", "a learning rate of inf"),
    (f"{ADAPT} --batch 0", "Invalid value for '--batch'"),
    (f"{ADAPT} --seed -1", "Invalid value for '--seed'"),
    (f"{ADAPT} --precision float16", "unknown precision 'float16'"),
    (f"{ADAPT} --device gpu", "unknown device 'gpu'"),
    (f"{ADAPT} --workers none", "unknown workers 'none'"),
    (f"{ADAPT} --workers 0", "unknown workers '0'"),
    (f"{ADAPT} --workers ray://127.0.0.1:99999", "unknown workers"),
    (f"{ADAPT} --weights missing.safetensors", "missing.safetensors: there is no such weight file"),
    (f"{ADAPT} --weights text.txt", "text.txt: not a safetensors file"),
    (f"{ADAPT} --mean x --std 1", "x"),
    (f"{ADAPT} --mean 0.5", "--std"),
    (f"{ADAPT} --preprocessing nowhere", "nowhere"),
    (f"{ADAPT} --table folder", "folder is a folder"),
    (f"{ADAPT} --table text.txt/table", "text.txt is not a folder"),
    (f"{ADAPT} --out text.txt", "is not a folder"),
    (f"{ADAPT} --out text.txt/run", "is not a folder"),
    ("adapt mobilenet_v9 --data fashion-mnist-mini --budget macs=0.6x --out run", "unknown network 'mobilenet_v9'"),
    ("adapt mobilenet_v1:x --data fashion-mnist-mini --budget macs=0.6x --out run", "WIDTH must be a number"),
    ("adapt mobilenet_v1@31 --data fashion-mnist-mini --budget macs=0.6x --out run", "the input size must be"),
    ("adapt no.such:make --data fashion-mnist-mini --budget macs=0.6x --out run", "no package or module 'no'"),
    ("adapt os.path --data fashion-mnist-mini --budget macs=0.6x --out run", "names no factory"),
    ("adapt mobilenet_v1@32 --data mnist --budget macs=0.6x --out run", "unknown data set 'mnist'"),
    ("adapt mobilenet_v1@32 --data folder:missing --budget macs=0.6x --out run", "missing: there is no such folder"),
    ("adapt mobilenet_v1@32 --data folder:folder --budget macs=0.6x --out run", "0 class folders found"),
    ("adapt mobilenet_v1@32 --data cifar10:folder --budget macs=0.6x --out run", "data_batch_1.bin"),
    ("measure missing.onnx", "missing.onnx: there is no such file"),
    ("measure text.onnx", "text.onnx: not a model"),
    ("measure text.txt", "text.txt: not a model"),
    ("measure mobilenet_v9", "unknown network 'mobilenet_v9'"),
    ("measure mobilenet_v1@32 -p pixel-9", "unknown platform 'pixel-9'"),
    ("measure mobilenet_v1@32 --channels 2", "1 or 3 channels"),
    ("measure mobilenet_v1@32 --classes 0", "at least 1 class"),
    ("measure mobilenet_v1@32 --weights missing.safetensors", "there is no such weight file"),
    ("measure text.onnx --classes 10", "an ONNX file has its own"),
    ("measure a.onnx b.onnx c.onnx", "one or two models"),
    ("tune missing.onnx", "missing.onnx: there is no such file"),
    ("tune mobilenet_v9", "unknown network 'mobilenet_v9'"),
    ("tune mobilenet_v1@32 -p pixel-9", "unknown platform 'pixel-9'"),
    ("tune mobilenet_v1@32 --trials 0", "Invalid value for '--trials'"),
    ("tune mobilenet_v1@32 --records folder", "folder is a folder"),
    ("export mobilenet_v9 --out a.onnx", "unknown network 'mobilenet_v9'"),
    ("export mobilenet_v1@32 --out folder", "folder is a folder"),
    ("export mobilenet_v1@32 --out text.txt/a.onnx", "is not a folder"),
    ("export mobilenet_v1@32 --out a.onnx --channels 4", "1 or 3 channels"),
    ("export mobilenet_v1@32 --out a.onnx --weights text.txt", "not a safetensors file"),
    ("train mobilenet_v9 --data fashion-mnist-mini --out w.safetensors", "unknown network 'mobilenet_v9'"),
    ("train mobilenet_v1@32 --data mnist --out w.safetensors", "unknown data set 'mnist'"),
    ("train mobilenet_v1@32 --data fashion-mnist-mini --out folder", "folder is a folder"),
    (f"{TRAIN} --epochs 0", "Invalid value for '--epochs'"),
    (f"{TRAIN} --lr nan", "a learning rate of nan"),
    (f"{TRAIN} --weight-decay -1", "a weight decay of -1"),
    (f"{TRAIN} --threads 0", "Invalid value for '--threads'"),
    (f"{TRAIN} --device tpu", "unknown device 'tpu'"),
    ("evaluate mobilenet_v1@32 --data fashion-mnist-mini --split train", "unknown split 'train'"),
    (f"{TRAIN} --mean 0.5", "--std"),
    ("evaluate mobilenet_v1@32 --data fashion-mnist-mini --std 0.5", "--mean"),
    ("export mobilenet_v1@32 --out a.onnx --data mnist", "unknown data set 'mnist'"),
    ("export mobilenet_v1@32 --out a.onnx --preprocessing nowhere", "nowhere"),
    ("evaluate mobilenet_v9 --data fashion-mnist-mini", "unknown network 'mobilenet_v9'"),
    ("evaluate mobilenet_v1@32 --data folder:missing", "there is no such folder"),
    ("evaluate mobilenet_v1@32 --data fashion-mnist-mini --weights missing", "there is no such weight file"),
    ("platforms show pixel-9", "unknown platform 'pixel-9'"),
    ("platforms show missing.toml", "there is no such platform"),
    ("platforms check pixel-9", "unknown platform 'pixel-9'"),
    ("platforms setup pixel-9", "unknown platform 'pixel-9'"),
    ("platforms lst", "No such command 'lst'"),
    ("lut build mobilenet_v9", "unknown network 'mobilenet_v9'"),
    ("lut build mobilenet_v1@32 -p pixel-9", "unknown platform 'pixel-9'"),
    ("lut build mobilenet_v1@32 --points 0", "Invalid value for '--points'"),
    ("lut build mobilenet_v1@32 --table folder", "folder is a folder"),
    ("lut show mobilenet_v9", "unknown network 'mobilenet_v9'"),
    ("lut show --table missing.sqlite", "missing.sqlite: there is no such table"),
    ("lut show --table text.txt", "text.txt: not a table"),
    ("lut compare mobilenet_v1@32 -p ort-local", "give two platforms"),
    ("lut compare mobilenet_v1@32 -p ort-local -p pixel-9", "unknown platform 'pixel-9'"),
    ("lut compare mobilenet_v9 -p ort-local -p ort-local", "unknown network 'mobilenet_v9'"),
    ("lut export folder", "folder is a folder"),
    ("lut export a.json -p pixel-9", "unknown platform 'pixel-9'"),
    ("lut export a.json --table missing.sqlite", "there is no such table"),
    ("lut import missing.json", "missing.json"),
    ("lut import text.txt", "text.txt"),
    ("lut accuracy mobilenet_v9", "unknown network 'mobilenet_v9'"),
    ("lut accuracy mobilenet_v1@32 --networks 1", "Invalid value for '--networks'"),
    ("data fetch --from missing", "missing"),
    ("data fetch --from folder --to text.txt/x", "text.txt"),
    ("simulator fidelity --csv missing.csv", "missing.csv"),
    ("simulator fidelity --csv text.txt", "text.txt"),
    ("results check missing", "missing"),
    ("results compare missing missing", "missing"),
    ("results compare folder folder --clock sun", "unknown clock 'sun'"),
    ("results list missing", "missing"),
    ("report missing", "missing"),
    ("report folder", "folder"),
    ("nonsense", "No such command 'nonsense'"),
]

_RUN_ALL = """
import json, shlex, sys, time
from typer.testing import CliRunner
from netadapt.cli import app

heavy = ("torch", "onnxruntime", "tvm", "ncnn")
for line in json.load(sys.stdin):
    before, started = set(sys.modules), time.perf_counter()
    result = CliRunner().invoke(app, shlex.split(line), prog_name="netadapt")
    fact = {
        "line": line, "code": result.exit_code, "error": result.stderr, "out": result.stdout,
        "loaded": [name for name in heavy if name in sys.modules.keys() - before],
        "seconds": time.perf_counter() - started, "exception": repr(result.exception),
    }
    print(json.dumps(fact), flush=True)
"""


def _make_files(folder: Path) -> None:
    (folder / "folder").mkdir()
    for name in ("text.txt", "text.onnx"):
        (folder / name).write_text("just a text\n")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the outcome of each line, all run in one process, which begins with nothing imported."""
    folder = tmp_path_factory.mktemp("wrong")
    _make_files(folder)
    home = {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    lines = json.dumps([line for line, _ in WRONG])
    process = subprocess.run(
        [sys.executable, "-c", _RUN_ALL],
        input=lines,
        cwd=folder,
        env={**os.environ, **home, "COLUMNS": "60"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    left = sorted(str(path.relative_to(folder)) for path in folder.iterdir())
    assert [name for name in left if name not in ("cache", "data", "home")] == ["folder", "text.onnx", "text.txt"]
    return {fact["line"]: fact for fact in map(json.loads, process.stdout.splitlines())}


@pytest.mark.parametrize(("line", "complaint"), WRONG)
def test_a_wrong_argument_is_told_at_once(told: dict[str, dict[str, Any]], line: str, complaint: str) -> None:
    fact = told[line]
    assert fact["code"] == 2, fact
    assert complaint in fact["error"]
    assert fact["error"].startswith("netadapt: ")
    # Faults of a file have a line each.
    assert all(more.startswith("  ") for more in fact["error"].splitlines()[1:])
    assert fact["out"] == ""
    assert fact["loaded"] == []
    assert fact["seconds"] < 5  # a fraction of a second on an idle machine
