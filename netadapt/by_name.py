"""Networks, data, devices and tables put together by name, as the commands need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from netadapt.arguments import names_file
from netadapt.errors import DataError
from netadapt.lut.predictor import Predictor
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.search.observer import ANALYSIS, Observer
from netadapt.train.data import Dataset, load_dataset
from netadapt.train.data.normalisation import Normalisation, normalised
from netadapt.train.fit import require_fit
from netadapt.zoo.factory import build
from netadapt.zoo.resolution import ResolvedNetwork, resolve
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.user_code import names_user_code
from netadapt.zoo.weight_header import read_facts

OnFallback = Callable[[str, str, str], None]
"""Hears the platform asked for, why it is not available, and the one used instead."""


@contextmanager
def open_predictor(
    name: str,
    platform: str,
    table: Path | None,
    classes: int | None = None,
    channels: int | None = None,
    on_fallback: OnFallback | None = None,
    observer: Observer | None = None,
) -> Iterator[Predictor]:
    """Open what the commands around the look-up table work on.

    Raises:
        NetAdaptError: the network, platform or table does not exist or cannot be used.

    """
    heard = observer or Observer()
    with open_device(platform, heard.waiting, on_fallback) as device, Table.open(table) as opened:
        network = analysed(name, classes, channels, heard)
        yield Predictor(network, device, opened, on_progress=heard.measured, on_busy=heard.busy)


def analysed(
    name: str, classes: int | None, channels: int | None, observer: Observer | None = None
) -> AdaptableNetwork:
    """Return the network of this name with its channel groups and plan, which may take minutes.

    Raises:
        UnknownNameError, ModelError: it does not exist, or cannot be run.

    """
    observer = observer or Observer()
    resolved = resolve(name, classes=classes, in_channels=channels)
    observer.stage(ANALYSIS)
    return analyse(resolved.name, resolved.module, resolved.example_input, observer.analysed)


def load_network_and_data(
    name: str, data: str, weights: Path | None, normalisation: Normalisation | None = None
) -> tuple[ResolvedNetwork, Dataset]:
    """A network with the weights for a data set, and the data set at the network's input size.

    With a `normalisation` (mean and standard deviation) in place of the data set's own, if there is one; without, with
    what the weight file says that it was trained with.

    Raises:
        UnknownNameError, ModelError, DataError: one of them does not exist or cannot be used, or they do not fit.

    """
    normalisation = normalisation or trained_with(weights)
    if names_user_code(name):
        resolved = resolve(name, classes=None, in_channels=None, weights=weights)
        dataset = load_data(data, _side(resolved), normalisation, int(resolved.example_input.shape[1]))
        require_fit(resolved.name, resolved.module, resolved.example_input, dataset)
        return resolved, dataset
    dataset = load_data(data, NetworkSpec.parse(name).size, normalisation)
    classes, channels = len(dataset.classes), dataset.channels
    resolved = resolve(name, classes=classes, in_channels=channels, weights=weights, pretrained_on=dataset.name)
    return resolved, dataset


def load_judged_and_data(
    model: str, data: str, weights: Path | None, normalisation: Normalisation | None
) -> tuple[ResolvedNetwork, Dataset]:
    """As `load_network_and_data`, for the name of a network or an ONNX file, whose metadata say how it is given images.

    Raises:
        UnknownNameError, ModelError, DataError, OptionError: as `load_network_and_data` and `load_classifier_and_data`.

    """
    if not names_file(model):
        return load_network_and_data(model, data, weights, normalisation)
    from netadapt.onnx_classifier import load_classifier_and_data

    classifier, dataset = load_classifier_and_data(Path(model), data, normalisation)
    return ResolvedNetwork(classifier, torch.zeros(classifier.shape), model, pretrained=True), dataset


def load_untrained_network_and_data(
    name: str, data: str, normalisation: Normalisation | None, seed: int
) -> tuple[ResolvedNetwork, Dataset]:
    """A network to be trained, and the data set at the network's input size; a user's keeps the weights it comes with.

    Raises:
        UnknownNameError, ModelError, DataError: one of them does not exist or cannot be used, or they do not fit.

    """
    if names_user_code(name):
        return load_network_and_data(name, data, None, normalisation)
    spec = NetworkSpec.parse(name)
    dataset = load_data(data, spec.size, normalisation)
    module = build(spec, classes=len(dataset.classes), in_channels=dataset.channels, seed=seed)
    example_input = torch.zeros(1, dataset.channels, spec.size, spec.size)
    return ResolvedNetwork(module, example_input, str(spec), pretrained=False), dataset


def load_data(data: str, size: int, normalisation: Normalisation | None, channels: int | None = None) -> Dataset:
    """A data set by name, with another normalisation if one is given; `channels` as in `load_dataset`.

    Raises:
        UnknownNameError, DataError: it does not exist or cannot be used, or the normalisation does not fit it.

    """
    dataset = load_dataset(data, size, channels)
    return normalised(dataset, *normalisation) if normalisation else dataset


def trained_with(weights: Path | None) -> Normalisation | None:
    """The normalisation that a weight file says it was trained with, as those of `netadapt train` do.

    Raises:
        ModelError: the file is missing or not safetensors.

    """
    facts = {} if weights is None else read_facts(weights)
    match facts:
        case {"mean": [*means], "std": [*deviations]}:
            mean = tuple(value for value in means if isinstance(value, float))
            std = tuple(value for value in deviations if isinstance(value, float))
            return (mean, std) if (len(mean), len(std)) == (len(means), len(deviations)) else None
    return None


def _side(resolved: ResolvedNetwork) -> int:
    height, width = resolved.example_input.shape[-2:]
    if height != width:
        raise DataError(
            f"{resolved.name} takes {height} x {width} pixels, but named data sets are square; "
            "give a data set of your own to netadapt.adapt()"
        )
    return int(height)
