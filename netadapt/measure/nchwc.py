"""Take the layout conversions off the borders of a model that ONNX Runtime has optimised.

On many CPUs ONNX Runtime runs convolutions in a layout of channel blocks (NCHWc, 8 or 16 channels). A network is
converted once at its borders, but a model of one operation converts its input and its output on every run, and so
costs far more than the same operation inside a network. A blocked tensor is an ordinary one of the shape
[N, C rounded up to whole blocks, H, W], so a model can just as well take and give it.
"""

from __future__ import annotations

from typing import Any

import onnx

_DOMAIN = "com.microsoft.nchwc"


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


def without_border_conversions(optimised: bytes, block: int) -> bytes | None:
    """Make the inputs and outputs of a model blocked; None when it has no conversion at its borders.

    Args:
        optimised: a model as ONNX Runtime saves it after optimisation.
        block: channels of a block, see `block_channels`.

    """
    model = onnx.load_model_from_string(optimised)
    graph = model.graph
    removed = []
    for value in graph.input:
        readers = [node for node in graph.node if value.name in node.input]
        # An input that something else reads as well has to stay as it is.
        if len(readers) == 1 and _is_conversion(readers[0], "ReorderInput"):
            _become(value, readers[0].output[0], block)
            removed.append(readers[0])
    for value in graph.output:
        writer = next((node for node in graph.node if value.name in node.output), None)
        if writer is not None and _is_conversion(writer, "ReorderOutput"):
            _become(value, writer.input[0], block)
            removed.append(writer)
    for node in removed:
        graph.node.remove(node)
    return bytes(model.SerializeToString()) if removed else None


def _is_conversion(node: Any, kind: str) -> bool:
    channels_last = any(attribute.name == "channels_last" and attribute.i for attribute in node.attribute)
    return bool(node.domain == _DOMAIN and node.op_type == kind and not channels_last)


def _become(value: Any, blocked: str, block: int) -> None:
    """Turn an input or output of a graph into its blocked counterpart."""
    value.name = blocked
    channels = value.type.tensor_type.shape.dim[1]
    channels.dim_value = -(-channels.dim_value // block) * block
