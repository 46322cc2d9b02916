"""A network by name to an ONNX file that says what its input has to be: what ``netadapt export`` does."""

from __future__ import annotations

from pathlib import Path

from netadapt.by_name import load_network_and_data
from netadapt.errors import OptionError
from netadapt.network.export import to_onnx, write_onnx
from netadapt.network.normalising import deployable
from netadapt.network.preprocessing import Preprocessing
from netadapt.train.data.normalisation import Normalisation, each_channel
from netadapt.zoo.resolution import ResolvedNetwork, resolve


def export_network(
    name: str,
    out: Path,
    *,
    weights: Path | None,
    data: str | None,
    classes: int | None,
    channels: int | None,
    normalisation: Normalisation | None,
    in_model: bool,
) -> Preprocessing | None:
    """Write the network to ``out`` and return what the file says about its input; None where nothing is known.

    ``data`` names the data set that the network was trained for, which gives classes, channels, normalisation and how
    photos are resized; without it ``normalisation`` gives mean and standard deviation alone.

    Raises:
        NetAdaptError: network or data cannot be used, they do not fit, or the normalisation is to be in the model and
            is not known.

    """
    if in_model and not (data or normalisation):
        raise OptionError("the model can only normalise by known values; give --data, or --mean and --std")
    if data and (classes or channels):
        raise OptionError("--data says how many classes and channels there are; leave --classes and --channels out")
    if data:
        resolved, dataset = load_network_and_data(name, data, weights, normalisation)
        known: Preprocessing | None = Preprocessing.of(dataset, resolved.example_input, in_model)
    else:
        resolved = resolve(name, classes=classes, in_channels=channels, weights=weights)
        known = _given(resolved, normalisation, in_model) if normalisation else None
    module = deployable(resolved.module, known) if known else resolved.module
    metadata = known.metadata() if known else {}
    write_onnx(out, to_onnx(module, resolved.example_input), {"netadapt.network": name, **metadata})
    return known


def _given(resolved: ResolvedNetwork, normalisation: Normalisation, in_model: bool) -> Preprocessing:
    shape = tuple(resolved.example_input.shape)
    mean, std = each_channel(*normalisation, shape[1])
    return Preprocessing(shape, mean, std, in_model=in_model)
