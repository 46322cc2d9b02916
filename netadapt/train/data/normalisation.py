"""Mean and standard deviation that a user gives, for a network that was trained with others than the data set's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from netadapt.errors import OptionError
from netadapt.train.data.types import Dataset
from netadapt.wording import counted

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation for pixels scaled to 0..1: one value a channel, or one for all."""


def parse_normalisation(mean: str | None, std: str | None) -> Normalisation | None:
    """Read comma-separated ``mean`` and ``std`` (one a channel, or one for all); None where neither is given.

    Raises:
        OptionError: only one is given, or it is not a list of numbers.

    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise OptionError("--mean and --std belong together; give both, for pixels scaled to 0..1")
    return _numbers("mean", mean), _numbers("std", std)


def normalised(dataset: Dataset, mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """Return the data set with another ``mean`` and ``std``, for pixels scaled to 0..1; one value is for all channels.

    It is the same data set if these are its own.

    Raises:
        OptionError: their number is not that of the channels, or they cannot be those of pixels scaled to 0..1.

    """
    mean, std = each_channel(mean, std, dataset.channels)
    if (mean, std) == (dataset.mean, dataset.std):
        return dataset
    remark = f"normalised with mean {_listed(mean)} and std {_listed(std)}, not with its own"
    return replace(dataset, mean=mean, std=std, given_normalisation=True, remarks=(*dataset.remarks, remark))


def each_channel(mean: Sequence[float], std: Sequence[float], channels: int) -> Normalisation:
    """Return one mean and one standard deviation for each of the channels; one value is for all.

    Raises:
        OptionError: the number of values is not that of the channels, or they cannot be those of pixels scaled to 0..1.

    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise OptionError(
                f"{name}: {counted(len(values), 'value')} for {counted(channels, 'channel')}; give one a channel, or "
                "one for all"
            )
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
            raise OptionError(
                f"{name}: {_listed(values)} is not between 0 and 1; it is for pixels scaled to 0..1, "
                "so divide values for 0..255 by 255"
            )
    if not all(std):
        raise OptionError(f"std: {_listed(std)} must be above 0 in every channel")
    return _repeated(mean, channels), _repeated(std, channels)


def _repeated(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) * (channels if len(values) == 1 else 1)


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--{name} {text!r} is not a list of numbers; write --{name} 0.485,0.456,0.406") from None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
