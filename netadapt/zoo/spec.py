"""The name of a network: ``NAME[:WIDTH][@SIZE]``, for example ``mobilenet_v1:0.5@32``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from netadapt.errors import ModelError, UnknownNameError

NETWORKS = (
    "alexnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet50",
    "squeezenet",
)
SMALLEST_SIZE = 32
LARGEST_SIZE = 320
DEFAULT_SIZE = 224
_PATTERN = re.compile(r"(?P<name>[^:@]+)(?::(?P<width>[^:@]+))?(?:@(?P<size>[^:@]+))?")


@dataclass(frozen=True)
class NetworkSpec:
    """Which zoo network, how wide, and for which square input.

    ``width`` multiplies every layer's channels; ``size`` is height and width of the input in pixels.
    """

    name: str
    width: float = 1.0
    size: int = DEFAULT_SIZE

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UnknownNameError: there is no network of this name.
            ModelError: width or size is out of range.

        """
        if self.name not in NETWORKS:
            raise UnknownNameError("network", self.name, NETWORKS)
        if not (math.isfinite(self.width) and self.width > 0):
            raise ModelError(f"network {self.name!r}: the width multiplier must be above 0, not {self.width:g}")
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise ModelError(
                f"network {self.name!r}: the input size must be {SMALLEST_SIZE} to {LARGEST_SIZE}, not {self.size}"
            )

    @classmethod
    def parse(cls, text: str) -> NetworkSpec:
        """Read ``NAME[:WIDTH][@SIZE]``.

        Raises:
            UnknownNameError: there is no network of this name.
            ModelError: the text does not have this form, or width or size is not a number in range.

        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ModelError(f"{text!r} is not a network name; write NAME[:WIDTH][@SIZE], e.g. mobilenet_v1:0.5@32")
        if match["name"] not in NETWORKS:
            raise UnknownNameError("network", match["name"], NETWORKS)
        try:
            width = float(match["width"] or 1.0)
            size = int(match["size"] or DEFAULT_SIZE)
        except ValueError as error:
            raise ModelError(
                f"{text!r}: WIDTH must be a number and SIZE a whole number of pixels, e.g. mobilenet_v1:0.5@32"
            ) from error
        return cls(match["name"], width, size)

    def require_shape(self, classes: int, in_channels: int) -> None:
        """Check the number of classes, and of the input's channels.

        Raises:
            ModelError: one of them is out of range.

        """
        if classes < 1:
            raise ModelError(f"network {self}: needs at least 1 class, not {classes}")
        if in_channels not in (1, 3):
            raise ModelError(f"network {self}: the input must have 1 or 3 channels, not {in_channels}")

    def __str__(self) -> str:
        """Return the canonical name: no part that has its default value."""
        width = "" if self.width == 1.0 else f":{self.width!r}"
        size = "" if self.size == DEFAULT_SIZE else f"@{self.size}"
        return f"{self.name}{width}{size}"
