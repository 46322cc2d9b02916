"""Turn a model of one operation into what ONNX Runtime makes of that operation inside a network.

Alone, an operation is treated differently at the borders of its model:

- On many CPUs convolutions run in a layout of channel blocks (NCHWc, 8 or 16 channels). A network is converted once
  at its borders, a model of one operation on every run, which can cost more than the operation. A blocked tensor is
  an ordinary one of the shape [N, C rounded up to whole blocks, H, W], so a model can just as well take and give it.
- Some fusions (HardSwish into a convolution) are not made when they would give an output of the model.

So the operation is optimised with another one behind it, and then everything but the operation is cut off.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

_DOMAIN = "com.microsoft.nchwc"
#: An operation that ONNX Runtime 1.20 to 1.32 neither fuses with others nor runs in blocks.
_FOLLOWER = "Neg"


def block_channels(optimised_convolution: bytes) -> int | None:
    """Tell the channels of a block on this machine, read off an optimised convolution from 1 to 1 channels.

    None where ONNX Runtime does not use blocks: there the convolution is left as it was.
    """
    model = onnx.load_model_from_string(optimised_convolution)
    for node in model.graph.node:
        if node.domain == _DOMAIN and node.op_type == "Conv":
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
            return int(weight.dims[0])
    return None


def with_follower(model: bytes) -> bytes:
    """Let another operation follow the one output of a model, to be taken off again by `interior`."""
    proto = onnx.load_model_from_string(model)
    output = proto.graph.output[0]
    inner = f"{output.name}_inner"
    for node in proto.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
    proto.graph.node.append(helper.make_node(_FOLLOWER, [inner], [output.name]))
    return bytes(proto.SerializeToString())


def interior(optimised: bytes, block: int | None) -> bytes | None:
    """Cut the follower and the conversions of layout off the borders of an optimised model.

    Args:
        optimised: a model from `with_follower`, as ONNX Runtime saves it after optimisation.
        block: channels of a block, see `block_channels`.

    Returns:
        The model, to be run without further optimisation; None when nothing is left or the follower was fused.

    """
    model = onnx.load_model_from_string(optimised)
    graph = model.graph
    output = graph.output[0]
    follower = _writer(graph, output.name)
    if follower is None or follower.op_type != _FOLLOWER or _writer(graph, follower.input[0]) is None:
        return None
    output.name = follower.input[0]
    graph.node.remove(follower)
    if block:
        _cut_conversions(graph, block)
    return bytes(model.SerializeToString())


def _cut_conversions(graph: Any, block: int) -> None:
    for value in graph.input:
        readers = [node for node in graph.node if value.name in node.input]
        # An input that something else reads as well has to stay as it is.
        if len(readers) == 1 and _is_conversion(readers[0], "ReorderInput"):
            _become(value, readers[0].output[0], block)
            graph.node.remove(readers[0])
    for value in graph.output:
        writer = _writer(graph, value.name)
        if writer is not None and _is_conversion(writer, "ReorderOutput"):
            _become(value, writer.input[0], block)
            graph.node.remove(writer)


def _writer(graph: Any, name: str) -> Any:
    return next((node for node in graph.node if name in node.output), None)


def _is_conversion(node: Any, kind: str) -> bool:
    channels_last = any(attribute.name == "channels_last" and attribute.i for attribute in node.attribute)
    return bool(node.domain == _DOMAIN and node.op_type == kind and not channels_last)


def _become(value: Any, blocked: str, block: int) -> None:
    """Turn an input or output of a graph into its blocked counterpart."""
    value.name = blocked
    channels = value.type.tensor_type.shape.dim[1]
    channels.dim_value = -(-channels.dim_value // block) * block
