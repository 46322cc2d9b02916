"""What a model should compute, told by ONNX Runtime on this machine: a fast wrong kernel never enters a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import KernelInvalid, ModelError
from netadapt.measure.local import activations

#: Largest difference of an output, as a share of the largest value that is expected there. Sums are taken in another
#: order, which differs by some 1e-6 of it.
MOST_DIFFERENCE = 1e-4
#: What may differ in any case: where all terms of sums cancel out, rounding is all that is left.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs of a model and the outputs that belong to them, by name, in the shapes of the ONNX file."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]


def example(model: bytes, name: str = "model") -> Example:
    """Run a model once on random inputs, always the same ones.

    Raises:
        ModelError: not a model, one that cannot be run, or inputs other than of fixed shape and type float32.

    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise ModelError(f"{name}: not a model that ONNX Runtime can load: {error}") from error
    random = np.random.default_rng(0)
    inputs = {value.name: _input(random, value, name) for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    try:
        return Example(inputs, dict(zip(names, session.run(names, inputs), strict=True)))
    except Exception as error:
        raise ModelError(f"{name}: fails when it is run: {error}") from error


def require_equal(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], name: str) -> float:
    """Compare outputs with those expected; gives the largest absolute difference.

    Raises:
        KernelInvalid: a shape differs, a number is not finite, or a difference is larger than rounding explains.

    """
    worst = 0.0
    for index, (array, right) in enumerate(zip(found, expected, strict=True)):
        if array.shape != right.shape:
            raise KernelInvalid(f"{name}: output {index} has shape {array.shape} on the device, expected {right.shape}")
        with np.errstate(invalid="ignore"):
            difference = _largest(array.astype(np.float64) - right)
        limit = max(_ROUNDING, MOST_DIFFERENCE * _largest(right))
        # So written, what is not a number is a difference, and so is what is expected to be infinite.
        if not difference <= limit < math.inf:
            raise KernelInvalid(
                f"{name}: output {index} differs from ONNX Runtime's by {difference:.3g} (at most {limit:.3g} is"
                " rounding); it was not timed"
            )
        worst = max(worst, difference)
    return worst


def _largest(array: NDArray[Any]) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def _input(random: np.random.Generator, value: Any, name: str) -> NDArray[np.float32]:
    if value.type != "tensor(float)":
        raise ModelError(f"{name}: input {value.name!r} has type {value.type}; compiled models take tensor(float)")
    if not all(isinstance(length, int) and length > 0 for length in value.shape):
        raise ModelError(
            f"{name}: input {value.name!r} has the dynamic shape {value.shape}; export it with a fixed shape"
        )
    return activations(random, value.shape).astype(np.float32)
