"""Exported models on ONNX Runtime, and files that are there wholly or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_networks import Conv, Net, head, image
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.network.export import to_onnx, write_onnx
from netadapt.network.network import AdaptableNetwork
from netadapt.zoo import NETWORKS


def run(model: bytes, images: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": images.numpy()})[0]


def check_export(module: nn.Module, example: Tensor) -> None:
    model = to_onnx(module, example)
    with torch.no_grad():
        expected = module.eval()(example).numpy()
    np.testing.assert_allclose(run(model, example), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    nodes = onnx.load_model_from_string(model).graph.node
    assert {node.op_type for node in nodes}.isdisjoint({"Identity", "BatchNormalization"})


@pytest.mark.parametrize("name", NETWORKS)
def test_zoo_networks_compute_the_same_on_onnx_runtime(
    zoo_network: Callable[[str], AdaptableNetwork], name: str
) -> None:
    network = zoo_network(name)
    generator = random.Random(name)
    widths = {group.name: generator.choice(group.allowed_widths(1)) for group in network.groups.values()}
    check_export(network.narrowed(network.module, {}), network.example_input)
    check_export(network.narrowed(network.module, widths), network.example_input)


def test_exporting_changes_neither_module_nor_input() -> None:
    net = nn.Sequential(Net(lambda net, x: x.sub_(0.5)), Conv(3, 4, 1), nn.BatchNorm2d(4), head(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    example = image()
    to_onnx(net, example)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(example, image())


def test_the_model_has_the_batch_of_the_example() -> None:
    graph = onnx.load_model_from_string(to_onnx(Conv(3, 4, 1), image(2, 3, 5, 6))).graph
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    assert shapes == [[2, 3, 5, 6], [2, 4, 5, 6]]


def test_equal_parameters_are_not_shared_through_identity_nodes() -> None:
    # Two batch-norms fresh from initialisation: the exporter would store one and alias the other.
    net = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    graph = onnx.load_model_from_string(to_onnx(net, image())).graph
    assert [node.op_type for node in graph.node] == ["Relu", "BatchNormalization"] * 2
    names = {tensor.name for tensor in graph.initializer}
    assert all(set(node.input[1:]) <= names for node in graph.node)


def test_a_network_that_cannot_be_exported() -> None:
    with pytest.raises(ModelError, match=r"^Net cannot be exported to ONNX: \w+: .*special_bessel_j0"):
        to_onnx(Net(lambda net, x: torch.special.bessel_j0(x)), image())


def test_metadata_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model.onnx"
    write_onnx(path, to_onnx(Conv(3, 4, 1), image()), {"netadapt.widths": "{'a': 3}", "accuracy": "0.93"})
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "netadapt.widths": "{'a': 3}",
        "accuracy": "0.93",
    }
    assert run(path.read_bytes(), image()).shape == (1, 4, 8, 8)
