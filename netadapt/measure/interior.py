"""Turn a model of one operation into what ONNX Runtime makes of that operation inside a network.

Alone, an operation is treated differently at the borders of its model:

- On many CPUs convolutions run in a layout of channel blocks (NCHWc, 8 or 16 channels). A network is converted once
  at its borders, a model of one convolution on every run, which can cost more than the convolution. Conversely, an
  operation that cannot work on blocks (the scaling of a squeeze-excite) costs a network conversions around it.
- Some fusions (HardSwish into a convolution) are not made when they would give an output of the model.

So the operation is optimised between neighbours as it has them in a network, and then the neighbours are cut off.
A blocked tensor, which is then an input or output of the model, is an ordinary one of the shape
[N, C rounded up to whole blocks, H, W].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netadapt.network.workload import Workload

_DOMAIN = "com.microsoft.nchwc"
#: Operations that stand between convolutions and are not fused into them. The others (additions, activations,
#: batch-norms) would become part of a neighbour.
_AMONG_CONVOLUTIONS = frozenset({"conv", "max_pool", "avg_pool", "global_avg_pool", "mul", "scale", "concat"})
#: A convolution of so few channels reads the image; nothing comes before it.
_IMAGE_CHANNELS = 4
#: Neighbour of the other operations; ONNX Runtime (1.32) fuses it with nothing and does not run it in blocks.
_NEUTRAL = "Neg"


def block_channels(optimised_convolution: bytes) -> int:
    """Tell the channels of a block on this machine, read off an optimised convolution from 1 to 1 channels.

    1 where ONNX Runtime does not use blocks: there the convolution is left as it was.
    """
    model = onnx.load_model_from_string(optimised_convolution)
    for node in model.graph.node:
        if node.domain == _DOMAIN and node.op_type == "Conv":
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
            return int(weight.dims[0])
    return 1


def has_predecessors(workload: Workload) -> bool:
    """Tell whether convolutions come before the workload, as far as that matters."""
    return workload.op in _AMONG_CONVOLUTIONS and workload.in_channels[0] > _IMAGE_CHANNELS


def with_neighbours(model: bytes, workload: Workload) -> bytes:
    """Put the model of a workload between neighbours, to be taken off again by `interior`."""
    proto = onnx.load_model_from_string(model)
    if has_predecessors(workload):
        for value in list(proto.graph.input):
            _rename(proto.graph, value.name, f"{value.name}_before")
            _add_convolution(proto.graph, value.name, f"{value.name}_before", _shape(value)[1], first=True)
    output = proto.graph.output[0]
    inner = f"{output.name}_inner"
    _rename(proto.graph, output.name, inner)
    if workload.op in _AMONG_CONVOLUTIONS:
        _add_convolution(proto.graph, inner, output.name, workload.out_channels)
    else:
        proto.graph.node.append(helper.make_node(_NEUTRAL, [inner], [output.name]))
    return bytes(proto.SerializeToString())


def interior(optimised: bytes, workload: Workload, block: int) -> bytes | None:
    """Cut the neighbours off, and what lies outside of them.

    Args:
        optimised: a model from `with_neighbours`, as ONNX Runtime saves it after optimisation.
        workload: the same as given there.
        block: channels of a block, see `block_channels`.

    Returns:
        The model, to be run without further optimisation; None when nothing is left of the workload, or a neighbour
        is not there any more because it was fused with it.

    """
    model = onnx.load_model_from_string(optimised)
    graph = model.graph
    whole = _cut_after(graph, workload)
    if has_predecessors(workload):
        whole = whole and all(_cut_before(graph, value, block) for value in graph.input)
    return bytes(model.SerializeToString()) if whole and graph.node else None


def _cut_after(graph: Any, workload: Workload) -> bool:
    value = graph.output[0]
    neighbour = _writer(graph, value.name)
    if neighbour is not None and neighbour.op_type == "ReorderOutput":
        graph.node.remove(neighbour)
        neighbour = _writer(graph, neighbour.input[0])
    expected = "Conv" if workload.op in _AMONG_CONVOLUTIONS else _NEUTRAL
    if neighbour is None or neighbour.op_type != expected or _writer(graph, neighbour.input[0]) is None:
        return False
    graph.node.remove(neighbour)
    value.CopyFrom(helper.make_tensor_value_info(neighbour.input[0], onnx.TensorProto.FLOAT, None))
    return True


def _cut_before(graph: Any, value: Any, block: int) -> bool:
    neighbour = _reader(graph, value.name)
    if neighbour is not None and neighbour.op_type == "ReorderInput":
        graph.node.remove(neighbour)
        neighbour = _reader(graph, neighbour.output[0])
    if neighbour is None or neighbour.op_type != "Conv" or _reader(graph, neighbour.output[0]) is None:
        return False
    graph.node.remove(neighbour)
    batch, channels, *size = _shape(value)
    if neighbour.domain == _DOMAIN:
        channels = -(-channels // block) * block
    shape = (batch, channels, *size)
    value.CopyFrom(helper.make_tensor_value_info(neighbour.output[0], onnx.TensorProto.FLOAT, shape))
    return True


def _add_convolution(graph: Any, source: str, target: str, channels: int, first: bool = False) -> None:
    """Add a depthwise convolution with a kernel of one pixel."""
    weight = numpy_helper.from_array(np.ones((channels, 1, 1, 1), np.float32), f"{target}_weight")
    graph.initializer.append(weight)
    node = helper.make_node("Conv", [source, weight.name], [target], group=channels, kernel_shape=(1, 1))
    graph.node.insert(0 if first else len(graph.node), node)


def _rename(graph: Any, old: str, new: str) -> None:
    """Rename a tensor in all nodes, but not among the inputs and outputs of the graph."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _writer(graph: Any, name: str) -> Any:
    return next((node for node in graph.node if name in node.output), None)


def _reader(graph: Any, name: str) -> Any:
    return next((node for node in graph.node if name in node.input), None)


def _shape(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
