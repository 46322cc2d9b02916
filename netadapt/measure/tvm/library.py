"""A compiled model: a shared library for a device, and how its inputs and outputs differ from the ONNX file's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Name of the function in the library, for TVM's virtual machine.
ENTRY = "main"
#: Attribute of the kernels that none of our schedules fits.
GENERAL = "netadapt.general"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a compiled model."""

    name: str
    #: As the ONNX file has it, images as `[N, C, H, W]`.
    shape: tuple[int, ...]
    dtype: str
    #: Order of the axes on the device, such as (0, 2, 3, 1) for `[N, H, W, C]`.
    axes: tuple[int, ...]

    def to_device(self, array: NDArray[Any]) -> NDArray[Any]:
        """Put an array of the ONNX file's shape into the device's layout."""
        return np.ascontiguousarray(array.transpose(self.axes))

    def from_device(self, array: NDArray[Any]) -> NDArray[Any]:
        """Undo `to_device`."""
        return array.transpose(np.argsort(self.axes))


@dataclass(frozen=True, slots=True)
class Library:
    """A compiled model."""

    #: The shared library, for TVM's `load_module`.
    content: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    #: Kernels that no schedule of ours fits: TVM's general ones, which can be much slower.
    general_kernels: tuple[str, ...] = ()
