"""Models for the tests of this folder."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(nodes, inputs, outputs, constants=()):
    """An ONNX model of nodes `(op, inputs, outputs, attributes)`; inputs and outputs by name with their shape."""
    graph = helper.make_graph(
        [helper.make_node(op, takes, gives, **attributes) for op, takes, gives, attributes in nodes],
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    imports = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def pointwise_chain(depth, channels=8, size=6):
    """Convolutions one after the other, each with weights of its own."""
    random = np.random.default_rng(0)
    names = ["x", *(f"t{index}" for index in range(1, depth)), "y"]
    shape = (1, channels, size, size)
    return model(
        [("Conv", [names[index], f"w{index}"], [names[index + 1]], {}) for index in range(depth)],
        [("x", shape)],
        [("y", shape)],
        [
            (f"w{index}", random.standard_normal((channels, channels, 1, 1)).astype(np.float32) / 3)
            for index in range(depth)
        ],
    )


def squeeze_excite(channels=24, squeezed=8, size=6):
    """The squeeze-excite block of MobileNetV3 between two convolutions."""
    random = np.random.default_rng(0)
    shape = (1, channels, size, size)
    return model(
        [
            ("Conv", ["x", "w"], ["image"], {}),
            ("GlobalAveragePool", ["image"], ["mean"], {}),
            ("Conv", ["mean", "w0", "b0"], ["down"], {}),
            ("Relu", ["down"], ["positive"], {}),
            ("Conv", ["positive", "w1", "b1"], ["up"], {}),
            ("HardSigmoid", ["up"], ["scale"], {"alpha": 1 / 6, "beta": 0.5}),
            ("Mul", ["image", "scale"], ["scaled"], {}),
            ("Conv", ["scaled", "w"], ["y"], {}),
        ],
        [("x", shape)],
        [("y", shape)],
        [
            ("w", random.standard_normal((channels, channels, 1, 1)).astype(np.float32)),
            ("w0", random.standard_normal((squeezed, channels, 1, 1)).astype(np.float32)),
            ("b0", random.standard_normal(squeezed).astype(np.float32)),
            ("w1", random.standard_normal((channels, squeezed, 1, 1)).astype(np.float32)),
            ("b1", random.standard_normal(channels).astype(np.float32)),
        ],
    )


def zoo_network(name):
    """A zoo network with fresh weights, as an ONNX file's contents."""
    from netadapt.network.export import to_onnx
    from netadapt.zoo import resolve

    resolved = resolve(name, classes=10, in_channels=3)
    return to_onnx(resolved.module, resolved.example_input)
