"""Check the arguments of commands before torch is imported, data are read, or anything is measured.

Each check raises the error that the work itself would raise later. Nothing is written, and no lock is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netadapt.errors import ModelError, OptionError, OutputError, TableError
from netadapt.outputs import Kind, require_output
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.user_code import names_user_code, require_importable

_ANY_CLASSES = 1000
_ANY_CHANNELS = 3


def check_network(
    name: str, weights: Path | None = None, classes: int | None = None, channels: int | None = None
) -> None:
    """Check the name of a network, its weight file, and the classes and input channels of one of the zoo.

    Raises:
        UnknownNameError, ModelError: see `netadapt.zoo.resolve`.

    """
    if names_user_code(name):
        require_importable(name)
    else:
        spec = NetworkSpec.parse(name)
        spec.require_shape(
            _ANY_CLASSES if classes is None else classes, _ANY_CHANNELS if channels is None else channels
        )
    if weights is not None:
        from netadapt.zoo.weight_header import read_facts

        read_facts(weights)


def names_file(model: str) -> bool:
    """Return whether a model is given as an ONNX file, not as the name of a network."""
    return model.endswith(".onnx") or Path(model).is_file()


def check_models(models: Sequence[str], weights: Path | None, classes: int | None, channels: int | None) -> None:
    """Check that each model is an ONNX file that can be run in bounded time and memory, or the name of a network.

    Raises:
        UnknownNameError, ModelError: one of them is not.
        OptionError: weights were given to a file, which has its own.

    """
    for model in models:
        if not names_file(model):
            check_network(model, weights, classes, channels)
    files = [Path(model) for model in models if names_file(model)]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{file}: there is no such file")
    if len(files) == len(models) and (weights, classes, channels) != (None, None, None):
        raise OptionError("--weights, --classes and --channels are for networks by name; an ONNX file has its own")
    if files:
        from netadapt.measure.model_file import model_bytes
        from netadapt.measure.trial import require_runs

        for file in files:
            model_bytes(file)
            require_runs(file)


def check_training(lr: float, batch: int, precision: str, device: str, weight_decay: float = 0.0) -> None:
    """Check options of training; whether there is such a GPU is found out later.

    Raises:
        UnknownNameError: there is no such precision or kind of device.
        OptionError: a number is out of range.

    """
    from netadapt.train.checks import device_index, require_numbers, require_precision

    require_numbers(lr, batch, weight_decay)
    require_precision(precision)
    device_index(device)


def check_run_folder(path: Path) -> None:
    """Check that a folder can be written to, or made.

    Raises:
        OutputError: it is a file, or lies where nothing can be written.

    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is not a folder; name one for the run, which need not be there yet")
    _require_place(path / "config.json", "run")


def check_table(path: Path | None, must_exist: bool = False) -> None:
    """Check the file of a look-up table as far as that is possible without opening it.

    Raises:
        TableError: it is not there although it must be.
        OutputError: it is a folder, or cannot be made.

    """
    if path is None:
        return
    if must_exist and not path.exists():
        raise TableError(f"{path}: there is no such table; fill one with: netadapt lut build NETWORK --table {path}")
    _require_place(path, "look-up table")


def check_records(path: Path) -> None:
    """Check the file of tuning records as far as that is possible without opening it.

    Raises:
        OutputError: it is a folder, or cannot be made.

    """
    _require_place(path, "file of tuning records")


def _require_place(path: Path, what: str) -> None:
    # What the file holds is judged by who opens it.
    require_output(path, Kind(what, lambda file: True))
