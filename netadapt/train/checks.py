"""Checks of what training is asked for. Needs neither numpy nor torch, so that wrong options are refused at once."""

from __future__ import annotations

import math
import re
from typing import Literal, get_args

from netadapt.errors import OptionError, UnknownNameError

Precision = Literal["float32", "bfloat16"]

_DEVICES = ("auto", "cpu", "cuda", "cuda:INDEX")
_DEVICE = re.compile(r"auto|cpu|cuda(:(?P<index>\d+))?")


def require_precision(name: str) -> None:
    """Raise UnknownNameError unless there is a precision of this name."""
    if name not in get_args(Precision):
        raise UnknownNameError("precision", name, get_args(Precision))


def require_numbers(lr: float, batch_size: int, weight_decay: float) -> None:
    """Check the numbers of a training.

    Raises:
        OptionError: the learning rate or the weight decay is not a number from 0 up, or a batch has no image.

    """
    for name, value in (("learning rate", lr), ("weight decay", weight_decay)):
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(f"a {name} of {value:g}; it must be a number from 0 up")
    if batch_size < 1:
        raise OptionError(f"batches of {batch_size} images; at least 1 is needed")


def device_index(name: str) -> int | None:
    """Return INDEX of ``cuda:INDEX`` (0 for ``cuda``), None for ``cpu`` and ``auto``; whether it exists is not checked.

    Raises:
        UnknownNameError: the name is none of a device.

    """
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise UnknownNameError("device", name, _DEVICES)
    return int(match["index"] or 0) if name.startswith("cuda") else None
