"""From a photo to a network's input: what a file that leaves this project must say to be used without it.

Needs no torch, so that the command line can check its options at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from netadapt.errors import ModelError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from netadapt.train.data.types import Dataset

#: Key of an ONNX file's metadata; its value is one JSON text, the same as `preprocessing` in `summary.json`.
METADATA_KEY = "netadapt.preprocessing"

Place = Literal["caller", "in-model"]
PLACES: tuple[Place, ...] = get_args(Place)

_COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class Preprocessing:
    """How the input `[N, C, H, W]`, float32, is made of 8-bit photos, and what the outputs stand for.

    `mean` and `std` are for pixels scaled to 0..1, one a channel. With `in_model` the model itself normalises and takes
    pixels from 0 to 255; without, it takes `(pixels / 255 - mean) / std`. `resize` is as in `Dataset`, `classes` the
    outputs' names in order; both are empty where nobody said.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    resize: str | None = None
    in_model: bool = False

    @classmethod
    def of(cls, dataset: Dataset, example_input: Tensor, in_model: bool = False) -> Self:
        """The preprocessing of a network that takes inputs like `example_input` and was trained on `dataset`."""
        shape = tuple(example_input.shape)
        return cls(shape, dataset.mean, dataset.std, dataset.classes, dataset.resize, in_model)

    @classmethod
    def read(cls, text: str, source: str) -> Self:
        """Read the metadata of an ONNX file.

        Raises:
            ModelError: it is not what `metadata` writes; names the `source`.

        """
        try:
            fields = json.loads(text)
            resize, in_model = fields["resize"], fields["in_model"]
            if not (isinstance(resize, str | None) and isinstance(in_model, bool)):
                raise TypeError("resize and in_model must be a text and true or false")
            return cls(
                tuple(int(length) for length in fields["shape"]),
                tuple(float(value) for value in fields["mean"]),
                tuple(float(value) for value in fields["std"]),
                tuple(str(name) for name in fields["classes"]),
                resize,
                in_model,
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(f"{source}: what it says under {METADATA_KEY} cannot be used ({reason})") from error

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, with what is true of every network of ours."""
        return {
            **json.loads(json.dumps(asdict(self))),
            "layout": "NCHW",
            "dtype": "float32",
            "colours": _COLOURS.get(self.shape[1]),
        }

    def metadata(self) -> dict[str, str]:
        """Return what an ONNX file says about it."""
        return {METADATA_KEY: json.dumps(self.to_json(), sort_keys=True)}


def is_in_model(place: str) -> bool:
    """Whether the normalisation is to be a part of the model.

    Raises:
        UnknownNameError: there is no such place for it.

    """
    if place not in PLACES:
        raise UnknownNameError("place of preprocessing", place, PLACES)
    return place == "in-model"


def note_for_deployment(preprocessing: Mapping[str, Any]) -> str:
    """Describe in one line what the input of an exported model has to be."""
    shape = list(preprocessing["shape"])
    if preprocessing["in_model"]:
        values = "pixels from 0 to 255, which the model normalises itself"
        if preprocessing.get("in_measured_costs") is False:
            values += " (no part of the measured costs)"
    else:
        mean, std = (", ".join(f"{value:.4g}" for value in preprocessing[name]) for name in ("mean", "std"))
        values = f"(pixels / 255 - mean) / std, mean {mean}, std {std}"
    return f"input {shape} float32 {preprocessing['colours'] or ''}: {values}; see docs/deploy.md"
