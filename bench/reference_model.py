"""The model whose cost tells how fast a machine is just now: the same bytes for ever, whatever exports our networks."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

_SIZE = 48
#: Output channels of the layers; all but the first and last are pairs of depthwise and pointwise convolutions, so
#: that the mix of arithmetic and memory is that of the networks it is timed beside.
_STEM, _BLOCKS, _CLASSES = 32, (64, 128, 128), 10
_IR_VERSION, _OPSET = 8, 13


@cache
def reference_model() -> bytes:
    """An ONNX model of seven convolutions with input [1, 3, 48, 48] and output [1, 10]."""
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(shape: tuple[int, ...]) -> str:
        weights.append(
            helper.make_tensor(f"w{len(weights)}", TensorProto.FLOAT, shape, _numbers(shape).tobytes(), True)
        )
        return str(weights[-1].name)

    def convolution(inputs: str, shape: tuple[int, int, int, int], stride: int = 1, groups: int = 1) -> str:
        pads = [shape[2] // 2] * 4
        name = f"x{len(nodes)}"
        nodes.append(
            helper.make_node("Conv", [inputs, weight(shape)], [name], strides=[stride] * 2, pads=pads, group=groups)
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}r"]))
        return f"{name}r"

    last = convolution("image", (_STEM, 3, 3, 3), stride=2)
    width = _STEM
    for out in _BLOCKS:
        last = convolution(last, (width, 1, 3, 3), groups=width)
        last = convolution(last, (out, width, 1, 1))
        width = out
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    nodes.append(helper.make_node("MatMul", ["features", weight((width, _CLASSES))], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, _SIZE, _SIZE))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, _CLASSES))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _numbers(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights between -0.125 and 0.125, by integer arithmetic: random generators may change with their library."""
    indices = np.arange(np.prod(shape), dtype=np.uint64)
    hashed = (indices * np.uint64(2654435761)) % np.uint64(1 << 16)
    return ((hashed.astype(np.float32) / np.float32(1 << 16) - np.float32(0.5)) / np.float32(4)).reshape(shape)
