"""Models that normalise their input themselves, and what a file says about its input."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_networks import Conv, head
from torch import nn

from netadapt.errors import ModelError, UnknownNameError
from netadapt.network.export import to_onnx, write_onnx
from netadapt.network.normalising import deployable
from netadapt.network.preprocessing import METADATA_KEY, Preprocessing, is_in_model, note_for_deployment

MEAN, STD = (0.5, 0.25, 0.75), (0.25, 0.5, 0.125)


def preprocessing(in_model: bool) -> Preprocessing:
    return Preprocessing((1, 3, 8, 8), MEAN, STD, ("cat", "dog"), "crop", in_model)


def test_a_model_that_normalises_gives_the_same_for_raw_pixels() -> None:
    network = nn.Sequential(Conv(3, 4, 3, padding=1), nn.BatchNorm2d(4), head(4)).eval()
    pixels = torch.randint(0, 256, (1, 3, 8, 8)).float()
    example = torch.zeros(1, 3, 8, 8)
    given = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)

    def outputs(in_model: bool, images: torch.Tensor) -> np.ndarray:
        model = to_onnx(deployable(network, preprocessing(in_model)), example)
        return onnxruntime.InferenceSession(model).run(["output"], {"input": images.numpy()})[0]

    np.testing.assert_allclose(outputs(True, pixels), outputs(False, given), rtol=1e-4, atol=1e-5)


def test_the_file_says_what_its_input_has_to_be(tmp_path) -> None:
    stated = preprocessing(in_model=False)
    write_onnx(tmp_path / "m.onnx", to_onnx(Conv(3, 4, 1), torch.zeros(1, 3, 8, 8)), stated.metadata())
    metadata = {item.key: item.value for item in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(metadata[METADATA_KEY]) == {
        "shape": [1, 3, 8, 8],
        "layout": "NCHW",
        "dtype": "float32",
        "colours": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "classes": ["cat", "dog"],
        "resize": "crop",
        "in_model": False,
    }


def test_what_the_file_says_is_read_again() -> None:
    for stated in (preprocessing(in_model=False), preprocessing(in_model=True)):
        assert Preprocessing.read(stated.metadata()[METADATA_KEY], "m.onnx") == stated


@pytest.mark.parametrize(
    "change", [None, {"mean": "a"}, {"mean": 3}, {"shape": [1, "x"]}, {"in_model": 1}, {"resize": 2}]
)
def test_metadata_that_cannot_be_ours_are_refused(change: dict[str, object] | None) -> None:
    text = "[" * 100_000 if change is None else json.dumps({**preprocessing(False).to_json(), **change})
    with pytest.raises(ModelError, match=r"m\.onnx: what it says under netadapt\.preprocessing cannot be used"):
        Preprocessing.read(text, "m.onnx")


def test_it_is_told_in_one_line() -> None:
    assert "(pixels / 255 - mean) / std, mean 0.5, 0.25, 0.75" in note_for_deployment(preprocessing(False).to_json())
    in_model = preprocessing(True).to_json()
    assert note_for_deployment(in_model).endswith(
        "pixels from 0 to 255, which the model normalises itself; see docs/deploy.md"
    )
    assert "no part of the measured costs" in note_for_deployment({**in_model, "in_measured_costs": False})


def test_there_are_two_places_for_it() -> None:
    assert [is_in_model(place) for place in ("caller", "in-model")] == [False, True]
    with pytest.raises(UnknownNameError, match="unknown place of preprocessing 'inside'"):
        is_in_model("inside")
