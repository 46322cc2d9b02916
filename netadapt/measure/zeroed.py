"""Models with their weights set to 0: they take the same instructions, but nobody needs the weights' values.

An emulated device fetches zeros faster, and every workload of the same sizes has the same file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import onnx

from netadapt.measure.model_file import read_model

#: A tensor of so few elements may be a limit, a scale or a size rather than weights.
_FEW = 16
#: Operators, of any domain, and which of their inputs are weights that only go into sums and products: no shape and no
#: branch depends on them, and nothing is divided by them. Batch-norm's variance is its input 4.
_WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "FusedConv": (1, 2),
    "Gemm": (0, 1, 2),
    "FusedGemm": (0, 1, 2),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "BatchNormalization": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
}
_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.DOUBLE: 8}


def zeroed_onnx(model: bytes) -> bytes:
    """The same model with the weights of its layers set to 0.

    What stays as it is: tensors of at most 16 elements, of integers, in files of their own, variances, divisors, and
    whatever goes into an operator whose course could depend on it (Resize, Where, Loop, ...).

    Raises:
        ModelError: not an ONNX model.

    """
    proto = read_model(model)
    used = _uses(proto.graph)
    for tensor in proto.graph.initializer:
        if _is_large(tensor) and all(index in _WEIGHTS.get(kind, ()) for kind, index in used[tensor.name]):
            _clear(tensor)
    return bytes(proto.SerializeToString())


def _uses(graph: Any) -> dict[str, list[tuple[str, int]]]:
    """For each tensor, the operators that read it, and as which of their inputs."""
    used = defaultdict(list)
    for value in graph.output:
        used[value.name].append(("output", 0))
    for node in graph.node:
        for index, name in enumerate(node.input):
            used[name].append((node.op_type, index))
        # What the branches and bodies inside read, they may read for any purpose.
        for name in _names_inside(node):
            used[name].append((node.op_type, -1))
    return used


def _names_inside(node: Any) -> list[str]:
    bodies = [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs)]
    names: list[str] = []
    for inner in (inner for body in bodies for inner in body.node):
        names += [*inner.input, *_names_inside(inner)]
    return names


def _is_large(tensor: Any) -> bool:
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if tensor.data_type not in _BYTES or external:
        return False
    # Dimensions of a damaged model can claim any size; half floats outside of `raw_data` take less than they stand for.
    return math.prod(tensor.dims) > _FEW and _size(tensor) <= 4 * int(tensor.ByteSize())


def _size(tensor: Any) -> int:
    elements: int = math.prod(tensor.dims)
    return elements * _BYTES[tensor.data_type]


def _clear(tensor: Any) -> None:
    size = _size(tensor)
    for content in ("float_data", "double_data", "int32_data"):
        tensor.ClearField(content)
    tensor.raw_data = bytes(size)
