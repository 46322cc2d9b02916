"""A workload as an ONNX model of its own, so that any runtime can measure it.

The nodes are those that torch's exporter emits for the same layer, because that is what runs inside a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from netadapt.network.workload import Workload

OPSET = 18
#: The version that belongs to opset 18; every runtime we measure reads it.
IR_VERSION = 8


def workload_to_onnx(workload: Workload, seed: int = 0) -> bytes:
    """Serialise one workload as an ONNX model with inputs `x0`, `x1`, ... and the output `y`.

    Inputs and outputs have the shapes that `Workload` documents. Weights are random but always the same for one
    seed, with a variance that keeps activations near 1: neither denormal nor infinite numbers, which would change
    the time.
    """
    graph = _Graph(np.random.default_rng(seed))
    inputs = [f"x{index}" for index in range(len(workload.in_channels))]
    result = _BUILDERS[workload.op](graph, workload, inputs)
    graph.activation(workload.activation, result, "y")
    proto = helper.make_graph(
        graph.nodes,
        workload.op,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(inputs, input_shapes(workload), strict=True)
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape(workload))],
        graph.constants,
    )
    model = helper.make_model(
        proto, producer_name="netadapt", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    return bytes(model.SerializeToString())


def input_shapes(workload: Workload) -> list[tuple[int, ...]]:
    """Shapes of the inputs `x0`, `x1`, ... of a workload."""
    if workload.op == "linear":
        return [(workload.batch, workload.in_channels[0])]
    shapes: list[tuple[int, ...]] = [(workload.batch, channels, *workload.in_size) for channels in workload.in_channels]
    if workload.op == "scale":
        shapes[1] = (workload.batch, workload.in_channels[1], 1, 1)
    return shapes


def output_shape(workload: Workload) -> tuple[int, ...]:
    """Shape of the output `y` of a workload."""
    if workload.op == "linear":
        return (workload.batch, workload.out_channels)
    return (workload.batch, workload.out_channels, *workload.out_size)


@dataclass
class _Graph:
    """Nodes and constants of the model under construction."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return name

    def constant(self, name: str, values: NDArray[np.float32]) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        return self.constant(name, (self.random.standard_normal(shape) * deviation).astype(np.float32))

    def activation(self, kind: str, source: str, output: str) -> None:
        """Append the activation; `output` becomes the result even where there is nothing to compute."""
        if kind == "none":
            # The last node can give its result the final name; a model that computes nothing needs a node.
            if self.nodes and self.nodes[-1].output[0] == source:
                self.nodes[-1].output[0] = output
            else:
                self.node("Identity", [source], output)
        elif kind == "relu6":
            low = self.constant("six_low", np.array(0, np.float32))
            high = self.constant("six_high", np.array(6, np.float32))
            self.node("Clip", [source, low, high], output)
        elif kind == "hardsigmoid":
            self.node("HardSigmoid", [source], output, alpha=1 / 6, beta=0.5)
        elif kind == "silu":
            self.node("Mul", [source, self.node("Sigmoid", [source])], output)
        else:
            self.node(_ACTIVATION_NODES[kind], [source], output)


_ACTIVATION_NODES = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def _conv(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    per_group = workload.in_channels[0] // workload.groups
    shape = (workload.out_channels, per_group, *workload.kernel)
    operands = [*inputs, graph.normal("weight", shape, 1 / math.sqrt(math.prod(shape[1:])))]
    if workload.bias:
        operands.append(graph.normal("bias", (workload.out_channels,), 0.1))
    return graph.node("Conv", operands, group=workload.groups, dilations=workload.dilation, **_window(workload))


def _linear(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    features, deviation = workload.in_channels[0], 1 / math.sqrt(workload.in_channels[0])
    if not workload.bias:
        weight = graph.normal("weight", (features, workload.out_channels), deviation)
        return graph.node("MatMul", [*inputs, weight])
    weight = graph.normal("weight", (workload.out_channels, features), deviation)
    return graph.node("Gemm", [*inputs, weight, graph.normal("bias", (workload.out_channels,), 0.1)], transB=1)


def _max_pool(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    return graph.node(
        "MaxPool", inputs, ceil_mode=int(workload.ceil_mode), dilations=workload.dilation, **_window(workload)
    )


def _avg_pool(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    include = int(workload.count_include_pad)
    return graph.node(
        "AveragePool", inputs, ceil_mode=int(workload.ceil_mode), count_include_pad=include, **_window(workload)
    )


def _global_avg_pool(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    return graph.node("GlobalAveragePool", inputs)


def _chain(op: str) -> Callable[[_Graph, Workload, list[str]], str]:
    def build(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
        result = inputs[0]
        for other in inputs[1:]:
            result = graph.node(op, [result, other])
        return result

    return build


def _concat(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    return graph.node("Concat", inputs, axis=1)


def _batch_norm(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    shape = (workload.out_channels,)
    ones = np.ones(shape, np.float32)
    operands = [graph.constant("gamma", ones), graph.normal("beta", shape, 0.1)]
    operands += [graph.normal("mean", shape, 0.1), graph.constant("variance", ones)]
    return graph.node("BatchNormalization", [*inputs, *operands])


def _identity(graph: _Graph, workload: Workload, inputs: list[str]) -> str:
    return inputs[0]


def _window(workload: Workload) -> dict[str, Any]:
    return {"kernel_shape": workload.kernel, "strides": workload.stride, "pads": workload.padding * 2}


_BUILDERS: dict[str, Callable[[_Graph, Workload, list[str]], str]] = {
    "conv": _conv,
    "linear": _linear,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "add": _chain("Add"),
    "mul": _chain("Mul"),
    "scale": _chain("Mul"),
    "concat": _concat,
    "batch_norm": _batch_norm,
    "activation": _identity,
}
