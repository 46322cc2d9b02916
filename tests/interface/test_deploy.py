"""docs/deploy.md by the letter: its program on an exported and an adapted model gives what netadapt itself gives."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import netadapt
from netadapt.cli import app
from netadapt.errors import OptionError, RunError
from netadapt.network.preprocessing import METADATA_KEY
from netadapt.search.budget import Pace
from netadapt.search.observer import Observer
from netadapt.search.trainer import Training
from netadapt.train import Augmentation, Classification, TrainingOptions, evaluate, fine_tune, load_dataset
from netadapt.zoo.weight_files import load_weights, save_weights

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
SIDE = 16
TRAINING = Training(2, TrainingOptions(lr=0.01, batch_size=16))
CLASSES = {"apple": (200, 60, 60), "banana": (190, 180, 60), "cucumber": (60, 160, 70)}
EXIF_ORIENTATION = 0x0112

MODELS = """
import torch
from torch import nn

def make():
    layers = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32)]
    network = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    return network, torch.zeros(1, 3, 16, 16)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: photos of many shapes, a factory, and weights trained on the photos."""
    folder = tmp_path_factory.mktemp("user")
    write_photos(folder / "photos")
    (folder / "fruit_models.py").write_text(MODELS)
    namespace: dict[str, object] = {}
    exec(MODELS, namespace)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, _ = namespace["make"]()  # type: ignore[operator]
    data = load_dataset(f"folder:{folder / 'photos'}", SIDE)
    options = TrainingOptions(lr=0.05, batch_size=16)
    fine_tune(network, Classification(), data, steps=12, options=options, seed=0)
    save_weights(network, folder / "w.safetensors", {})
    return folder


def write_photos(folder: Path) -> None:
    """Noise around a patch of a class's colour in the middle; sizes, formats and orientations differ."""
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for name, colour in CLASSES.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                height, width = random.integers(24, 90, 2)
                pixels = random.integers(60, 200, (height, width, 3)).astype(np.uint8)
                middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
                pixels[middle] = pixels[middle] // 2 + np.array(colour, np.uint8) // 2
                exif = Image.Exif()
                exif[EXIF_ORIENTATION] = 1 + 5 * (number % 2)
                suffix, mode = (("jpg", "RGB"), ("png", "RGBA"))[number // 2 % 2]
                Image.fromarray(pixels).convert(mode).save(folder / part / name / f"{number}.{suffix}", exif=exif)


@pytest.fixture
def at_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result.output


def program(model: str) -> str:
    """The page's only program, for another file."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "runs/mine/onnx/adapted.onnx" in code
    return code.replace("runs/mine/onnx/adapted.onnx", model)


def check_program(
    model: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run it on the test photos: the same classes and scores as the network's in netadapt's own hands."""
    photos = sorted(Path("photos/test").glob("*/*"))
    assert len(photos) == 12
    monkeypatch.setattr(sys, "argv", ["deploy.py", *map(str, photos)])
    capsys.readouterr()
    exec(program(model), {})
    rows = [line.rsplit(" ", 2) for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [str(photo) for photo in photos]

    data = load_dataset("folder:photos", SIDE)
    judged = CliRunner().invoke(app, ["evaluate", model, "--data", "folder:photos", "--json"])
    assert judged.exit_code == 0, judged.output
    right = [float(name == photo.parent.name) for photo, (_, name, _) in zip(photos, rows, strict=True)]
    assert json.loads(judged.stdout)["score"] == np.mean(right)
    assert evaluate(network, Classification(), data.test, data).images.scores.tolist() == right
    assert len({name for _, name, _ in rows}) > 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    with torch.no_grad():
        best = network((torch.from_numpy(data.test.images) / 255 - mean) / std).max(1).values
    np.testing.assert_allclose([float(score) for _, _, score in rows], best.numpy(), rtol=1e-3, atol=1e-4)


def trained(place: Path) -> nn.Module:
    import fruit_models

    network, _ = fruit_models.make()
    load_weights(network, place / "w.safetensors")
    return network.eval()


@pytest.mark.parametrize("where", ["caller", "in-model"])
def test_the_pages_program_agrees_on_an_exported_model(
    at_home: Path, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--weights", "w.safetensors", "--data", "folder:photos")
    told = run("export", "fruit_models:make", *given, "--out", "model.onnx", "--preprocessing", where)
    assert "input [1, 3, 16, 16] float32 RGB" in told
    check_program("model.onnx", trained(at_home), monkeypatch, capsys)


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def adapt(place: Path, out: Path, data: str = "folder:photos", **changes: object) -> netadapt.AdaptedNetwork:
    return netadapt.adapt(
        trained(place),
        torch.zeros(1, 3, SIDE, SIDE),
        data,
        budget="macs=0.7x",
        out=out / "run",
        pace=Pace(1),
        short_term=TRAINING,
        long_term=TRAINING,
        augmentation=Augmentation(flip=False),
        table=out / "table.sqlite",
        **changes,
    )


def check_stated(run: Path, summary: dict[str, Any], in_model: bool) -> None:
    """All models and the summary say the same about their input, and that costs are of the network alone."""
    stated = dict(summary["preprocessing"])
    assert stated.pop("in_measured_costs") is False
    assert stated["in_model"] == in_model
    for path in (run / "onnx").iterdir():
        metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
        assert json.loads(metadata[METADATA_KEY]) == stated


def test_the_pages_program_agrees_on_an_adapted_model(
    at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = Notes()
    adapted = adapt(at_home, tmp_path, observer=observer)
    check_program(str(adapted.onnx), adapted.module, monkeypatch, capsys)
    check_stated(tmp_path / "run", adapted.summary, in_model=False)
    assert "apple, 1 banana" in observer.notes[0]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == "folder:photos,resize=crop"
    for stage in ("short_term", "long_term"):
        assert config[stage]["options"]["augmentation"] == {"padding": 2, "flip": False}
    # What the run is about cannot change on the way.
    for named, changes in {
        "data": {"data": "folder:photos,resize=pad"},
        "--mean and --std": {"mean": (0.5,), "std": (0.5,)},
        "--preprocessing in-model": {"preprocessing": "in-model"},
    }.items():
        with pytest.raises(RunError, match=named):
            adapt(at_home, tmp_path, resume=True, **changes)


def test_the_pages_program_agrees_on_an_adapted_model_that_normalises(
    at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = adapt(at_home, tmp_path, preprocessing="in-model")
    check_program(str(adapted.onnx), adapted.module, monkeypatch, capsys)
    check_stated(tmp_path / "run", adapted.summary, in_model=True)


def test_what_cannot_be_normalised_in_the_model_is_refused(at_home: Path) -> None:
    given = ["export", "fruit_models:make", "--out", "model2.onnx", "--preprocessing", "in-model"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert "give --data, or --mean and --std" in result.stderr
    assert not Path("model2.onnx").exists()
    assert "float32 RGB: pixels from 0 to 255" in run(*given, "--mean", "0.5", "--std", "0.25")


def test_an_exported_file_is_judged_only_as_its_metadata_say(at_home: Path) -> None:
    given = ("--weights", "w.safetensors", "--data", "folder:photos")
    run("export", "fruit_models:make", *given, "--out", "raw.onnx", "--preprocessing", "in-model")

    def refused(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["evaluate", "raw.onnx", *arguments])
        assert result.exit_code == 2
        return result.stderr

    assert "resized by crop, but" in refused("--data", "folder:photos,resize=pad")
    told = refused("--data", "folder:photos", "--mean", "0.5", "--std", "0.5")
    assert "normalises its input by itself; leave --mean and --std out" in told
    shutil.copytree("photos", "others")
    for part in ("train", "test"):
        Path("others", part, "apple").rename(Path("others", part, "pear"))
    assert "made for other classes" in refused("--data", "folder:others")


def test_weights_are_used_with_the_normalisation_that_their_file_states(at_home: Path) -> None:
    save_weights(trained(at_home), at_home / "stated.safetensors", {"mean": [0.0] * 3, "std": [0.00392157] * 3})
    given = ("evaluate", "fruit_models:make", "--weights", "stated.safetensors", "--data", "folder:photos")
    assert "normalised with mean 0, 0, 0 and std 0.003922" in run(*given)
    data = load_dataset("folder:photos", SIDE)
    own = [",".join(map(str, values)) for values in (data.mean, data.std)]
    assert "near chance" not in run(*given, "--mean", own[0], "--std", own[1])


def test_wrong_normalisation_is_noticed_and_can_be_given(at_home: Path) -> None:
    given = ("evaluate", "fruit_models:make", "--weights", "w.safetensors", "--data", "folder:photos")
    assert "near chance" not in run(*given)
    told = run(*given, "--mean", "0", "--std", "0.00392157")  # as if it took pixels from 0 to 255
    assert "near chance (33.3%)" in told
    assert "3 classes in the order of their folders' names" in told


def test_mean_and_std_belong_together(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mean and std belong together"):
        netadapt.adapt(
            nn.Conv2d(1, 10, 3), torch.zeros(1, 1, 32, 32), "fashion-mnist-mini", budget="macs=0.7x", out=tmp_path,
            mean=(0.5,),
        )  # fmt: skip
