"""An exported classifier as a module, so that a file can be judged by the same code as a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netadapt.errors import DataError, ModelError, OptionError
from netadapt.network.preprocessing import METADATA_KEY, Preprocessing
from netadapt.train.data import Dataset, load_dataset
from netadapt.train.data.normalisation import Normalisation, normalised
from netadapt.train.fit import require_fit

_RAW_PIXELS: Normalisation = ((0.0,), (1 / 255,))


class OnnxClassifier(nn.Module):
    """Runs an ONNX file of one input `[1, C, H, W]`, float32, image by image with ONNX Runtime.

    Raises:
        ModelError: the file is not such a model, or what it says of its input cannot be read.

    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = _session(path)
        self.shape = _shape(path, self._session.get_inputs())
        self._input = self._session.get_inputs()[0].name
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        #: What the file says of its input; None for one of another origin.
        self.stated = None if text is None else Preprocessing.read(text, str(path))

    def forward(self, images: Tensor) -> Tensor:
        """The first output for `images` `[N, C, H, W]`, `[N, ...]`."""
        outputs = [self._session.run(None, {self._input: image})[0] for image in images.numpy()[:, None]]
        return torch.from_numpy(np.concatenate(outputs))


def load_classifier_and_data(
    path: Path, data: str, normalisation: Normalisation | None = None
) -> tuple[OnnxClassifier, Dataset]:
    """An exported classifier, and a data set as its metadata says it is to be given.

    `normalisation` goes before what the file says, and the data set's own is taken where neither says any.

    Raises:
        ModelError, UnknownNameError, DataError: one of them does not exist or cannot be used, or they do not fit.
        OptionError: a normalisation is given for a model that normalises by itself.

    """
    classifier = OnnxClassifier(path)
    _, channels, height, width = classifier.shape
    if height != width:
        raise DataError(f"{path} takes {height} x {width} pixels, but named data sets are square")
    dataset = load_dataset(data, height, channels)
    stated = classifier.stated
    if stated:
        _require_same_reading(path, stated, dataset)
        if stated.in_model and normalisation:
            raise OptionError(f"{path} normalises its input by itself; leave --mean and --std out")
        normalisation = normalisation or (stated.mean, stated.std)
    if stated and stated.in_model:
        remarks = (*dataset.remarks, "given as pixels from 0 to 255, which the model normalises itself")
        dataset = replace(normalised(dataset, *_RAW_PIXELS), remarks=remarks)
    elif normalisation:
        dataset = normalised(dataset, *normalisation)
    require_fit(str(path), classifier, torch.zeros(classifier.shape), dataset)
    return classifier, dataset


def _require_same_reading(path: Path, stated: Preprocessing, dataset: Dataset) -> None:
    if stated.classes and stated.classes != dataset.classes:
        raise DataError(f"{path} was made for other classes, or another order of them, than {dataset.name} has")
    if stated.resize != dataset.resize and None not in (stated.resize, dataset.resize):
        raise DataError(
            f"{path} takes images resized by {stated.resize}, but {dataset.name} is resized by {dataset.resize}; "
            "photos are resized otherwise with --data folder:PATH,resize=WAY"
        )


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise ModelError(f"{path}: not a model that onnxruntime can load: {error}") from error


def _shape(path: Path, inputs: list[Any]) -> tuple[int, ...]:
    fixed = [value.shape for value in inputs if value.type == "tensor(float)"]
    match fixed:
        case [[1, int(channels), int(height), int(width)]] if len(inputs) == 1:
            return (1, channels, height, width)
    told = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
    raise ModelError(f"{path}: takes {told}; only models of one input [1, C, H, W] of float32 can be evaluated")
