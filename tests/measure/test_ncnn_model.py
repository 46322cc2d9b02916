"""Conversion for ncnn with the real ncnn and pnnx, checked against ONNX Runtime and by hand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_models import FLOAT, matmul, model, relu

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.ncnn import NcnnProgram
from netadapt.measure.ncnn_model import onnx_to_ncnn, workload_to_ncnn, zeroed
from netadapt.network.workload import ACTIVATIONS, EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytest.importorskip("ncnn", reason="ncnn is not installed")
needs_pnnx = pytest.mark.skipif(importlib.util.find_spec("pnnx") is None, reason="pnnx is not installed")


def reference(content):
    """Inputs, and what ONNX Runtime makes of them."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    feeds = {value.name: random.uniform(-1, 1, value.shape).astype(np.float32) for value in session.get_inputs()}
    return list(feeds.values()), session.run(None, feeds)[0]


def agrees(converted, content):
    """Whether ncnn computes the same, in the plain layout and from packed inputs."""
    inputs, expected = reference(content)
    feeds = {name: x.reshape(shape) for (name, shape), x in zip(converted.inputs, inputs, strict=True)}
    (result,) = NcnnProgram(converted).compute(feeds)
    return np.abs(result.ravel() - expected.ravel()).max() <= 1e-3 * np.abs(expected).max()


def layers(converted):
    """Kind and parameters of each layer but the inputs; names of layers and blobs do not matter."""
    found = []
    for line in converted.param.splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        if kind != "Input":
            found.append((kind, parameters(rest[int(inputs) + int(outputs) :])))
    return found


def parameters(texts):
    pairs = (text.split("=") for text in texts)
    return {int(key): [float(value) for value in values.split(",")] for key, values in pairs}


# Single operations


def test_a_convolution_written_out():
    converted = workload_to_ncnn(
        Workload("conv", (3,), 8, (9, 7), (5, 3), (2, 1), (2, 1), bias=True, activation="relu6")
    )
    assert converted.param.splitlines() == [
        "7767517",
        "2 2",
        "Input x0 0 1 x0",
        "Convolution layer1 1 1 x0 y1 0=8 1=3 2=1 3=1 4=1 5=1 6=360 9=3 -23310=2,0.0,6.0 11=5 12=1 13=2 14=2",
    ]
    assert converted.inputs == (("x0", (3, 9, 7)),)
    assert converted.outputs == ("y1",)
    assert len(converted.weights) == 4 + 4 * (360 + 8)


def test_the_weights_of_a_linear_layer_by_hand():
    converted = workload_to_ncnn(Workload("linear", (3,), 2))
    weights = np.frombuffer(converted.weights[4:], np.float32).reshape(2, 3)
    x = np.array([1, 10, 100], np.float32)
    (result,) = NcnnProgram(converted).compute({"x0": x})
    assert result == pytest.approx(weights @ x, rel=1e-6)


CONVOLUTIONS = [
    Workload("conv", (7,), 12, (5, 4), bias=True),
    Workload("conv", (3,), 16, (9, 8), (3, 5), (2, 1), (1, 2)),
    Workload("conv", (16,), 24, (8, 8), (3, 3), (1, 1), (2, 1), (2, 1), bias=True),
    Workload("conv", (16,), 16, (9, 8), (3, 3), (2, 2), (1, 1), groups=16, bias=True),
    Workload("conv", (16,), 8, (5, 5), groups=4),
]
POOLS = [
    Workload(op, (channels,), channels, (9, 8), (3, 3), (2, 2), padding, ceil_mode=ceil, count_include_pad=include)
    for op in ("max_pool", "avg_pool")
    for channels in (7, 16)
    for padding in ((0, 0), (1, 1))
    for ceil in (False, True)
    for include in (False, True)
    # Beyond the border, ncnn counts other elements than torch does.
    if not (op == "avg_pool" and ceil and include)
]
OTHERS = [
    Workload("linear", (20,), 12, bias=True),
    Workload("global_avg_pool", (12,), 12, (5, 6)),
    Workload("add", (8, 8, 8), 8, (3, 4), activation="relu"),
    Workload("mul", (7, 7), 7, (3, 4)),
    Workload("scale", (16, 16), 16, (3, 4), activation="hardswish"),
    Workload("concat", (8, 4, 16), 28, (3, 4)),
    Workload("batch_norm", (12,), 12, (3, 4), activation="relu"),
    Workload("activation", (4,), 4, (2, 2)),
    EMPTY_RUN,
]


@pytest.mark.parametrize("workload", [*CONVOLUTIONS, *POOLS, *OTHERS], ids=str)
def test_operations_compute_what_they_do_in_onnx(workload):
    assert agrees(workload_to_ncnn(workload), workload_to_onnx(workload))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "workload",
    [
        Workload("activation", (8,), 8, (3, 3)),
        Workload("conv", (8,), 12, (3, 3), bias=True),
        Workload("conv", (8,), 8, (3, 3), (3, 3), padding=(1, 1), groups=8),
        Workload("conv", (16,), 4),
        Workload("linear", (8,), 4, bias=True),
    ],
    ids=str,
)
def test_every_activation_after_every_kind_of_layer(workload, activation):
    workload = replace(workload, activation=activation)
    assert agrees(workload_to_ncnn(workload), workload_to_onnx(workload))


@needs_pnnx
@pytest.mark.parametrize(
    "workload",
    [
        Workload("conv", (8,), 8, (4, 4), bias=True, activation="relu6"),
        Workload("conv", (8,), 8, (4, 4), (3, 3), (2, 2), (1, 1), groups=8, bias=True, activation="hardswish"),
        Workload("linear", (8,), 6, bias=True, activation="sigmoid"),
        Workload("linear", (8,), 6),
        Workload("max_pool", (8,), 8, (9, 9), (3, 3), (2, 2), ceil_mode=True),
        Workload("avg_pool", (8,), 8, (9, 9), (3, 3), (2, 2), (1, 1), count_include_pad=False),
        Workload("scale", (8, 8), 8, (4, 4), activation="hardsigmoid"),
        Workload("batch_norm", (8,), 8, (4, 4), activation="silu"),
    ],
    ids=str,
)
def test_operations_are_written_as_pnnx_writes_them(workload):
    ours, theirs = workload_to_ncnn(workload), onnx_to_ncnn(workload_to_onnx(workload))
    assert [kind for kind, _ in layers(ours)] == [kind for kind, _ in layers(theirs)]
    for (_, mine), (_, other) in zip(layers(ours), layers(theirs), strict=True):
        assert mine.keys() == other.keys()
        assert all(mine[key] == pytest.approx(other[key]) for key in mine)
    assert ours.weights == theirs.weights


@pytest.mark.parametrize(
    ("outputs", "activation", "kind"),
    [
        (16, "relu", "InnerProduct"),
        (256, "hardsigmoid", "InnerProduct"),
        (16, "none", "Convolution"),
        (256, "relu", "Convolution"),
    ],
)
def test_a_squeeze_excite_is_told_from_a_convolution_of_one_pixel(outputs, activation, kind):
    converted = workload_to_ncnn(Workload("conv", (64,), outputs, bias=True, activation=activation))
    assert layers(converted)[0][0] == kind
    assert converted.inputs[0][1] == ((64,) if kind == "InnerProduct" else (64, 1, 1))


def test_a_pool_with_dilation():
    with pytest.raises(MeasurementError, match=r"max_pool 4->4 .* dilation \(2, 2\); ncnn lacks pools with dilation"):
        workload_to_ncnn(Workload("max_pool", (4,), 4, (9, 9), (3, 3), dilation=(2, 2)))


def test_a_workload_of_several_images():
    with pytest.raises(MeasurementError, match=r"batch 2; ncnn runs one image at a time"):
        workload_to_ncnn(Workload("conv", (4,), 4, (9, 9), batch=2))


def test_zeroed_weights_are_loaded_as_before_and_give_zeros():
    converted = workload_to_ncnn(Workload("conv", (8,), 8, (3, 3), bias=True))
    empty = zeroed(converted)
    assert (empty.param, len(empty.weights)) == (converted.param, len(converted.weights))
    assert not NcnnProgram(empty).compute()[0].any()


def test_a_zeroed_batch_norm_stays_finite():
    assert not NcnnProgram(zeroed(workload_to_ncnn(Workload("batch_norm", (8,), 8, (3, 3))))).compute()[0].any()


# Whole networks


@pytest.fixture(scope="module")
def exported():
    """ONNX models of zoo networks whose batch-norms do something."""
    import torch

    from netadapt import zoo
    from netadapt.network.export import to_onnx

    def export(name):
        torch.manual_seed(0)
        module = zoo.resolve(name, classes=10, in_channels=3).module.eval()
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        return to_onnx(module, torch.rand(1, 3, 32, 32))

    return export


@needs_pnnx
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("mobilenet_v1:0.25@32", {"Convolution": 14, "ConvolutionDepthWise": 13, "InnerProduct": 1, "Pooling": 1}),
        (
            "mobilenet_v2:0.25@32",
            {"Convolution": 35, "ConvolutionDepthWise": 17, "BinaryOp": 11, "InnerProduct": 1, "Pooling": 1},
        ),
        (
            "mobilenet_v3_small@32",
            {
                "Convolution": 23,
                "ConvolutionDepthWise": 11,
                "InnerProduct": 20,
                "HardSwish": 19,
                "HardSigmoid": 9,
                "BinaryOp": 15,
                "Pooling": 10,
            },
        ),
        ("squeezenet@32", {"Convolution": 26, "Concat": 8, "Pooling": 4}),
    ],
)
def test_networks_are_fused_and_compute_the_same(exported, name, kinds):
    content = exported(name)
    converted = onnx_to_ncnn(content)
    found = [kind for kind, _ in layers(converted) if kind != "Split"]
    assert {kind: found.count(kind) for kind in found} == kinds
    assert converted.inputs == (("in0", (3, 32, 32)),)
    assert agrees(converted, content)
    assert len(converted.weights) > 0.9 * 4 * sum(int(np.prod(array.shape)) for array in constants(content))


def constants(content):
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    return [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == FLOAT]


@needs_pnnx
def test_features_without_a_batch():
    converted = onnx_to_ncnn(matmul(64))
    assert converted.inputs == (("in0", (8, 64)),)
    assert agrees(converted, matmul(64))


@needs_pnnx
def test_a_network_with_two_inputs_and_outputs():
    nodes = [helper.make_node("Add", ["a", "b"], ["y"]), helper.make_node("Relu", ["b"], ["z"])]
    shape = (1, 4, 2, 2)
    content = model(nodes, [("a", FLOAT, shape), ("b", FLOAT, shape)], [("y", FLOAT, shape), ("z", FLOAT, shape)])
    converted = onnx_to_ncnn(content)
    (first, _), (second, _) = converted.inputs
    low, high = np.full((4, 2, 2), -3, np.float32), np.full((4, 2, 2), 1, np.float32)
    if len(converted.inputs[0][1]) == 4:
        low, high = low[None], high[None]
    results = NcnnProgram(converted).compute({first: high, second: low})
    assert sorted({float(value) for value in result.ravel()} for result in results) == [{-2.0}, {0.0}]


@needs_pnnx
@pytest.mark.parametrize("op", ["NonZero", "Det"])
def test_an_operator_that_ncnn_lacks(op):
    output = ("y", TensorProto.INT64, (2, "n")) if op == "NonZero" else ("y", FLOAT, ())
    content = model([helper.make_node(op, ["x"], ["y"])], [("x", FLOAT, (2, 2))], [output])
    with pytest.raises(MeasurementError, match=rf"model: ncnn lacks operators of the model: {op}$"):
        onnx_to_ncnn(content)


def test_operators_of_others_are_named_without_asking_pnnx():
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    content = model([node], [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 4))], domains=["com.example"])
    with pytest.raises(MeasurementError, match=r"ncnn lacks operators of the model: com\.example\.Frobnicate"):
        onnx_to_ncnn(content)


@needs_pnnx
def test_several_images_at_once():
    weight = np.ones((4, 3, 1, 1), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    content = model([node], [("x", FLOAT, (2, 3, 8, 8))], [("y", FLOAT, (2, 4, 8, 8))], [("w", weight)])
    with pytest.raises(MeasurementError, match=r"batch 2; ncnn runs one image at a time"):
        onnx_to_ncnn(content)


@pytest.mark.parametrize("content", [b"", b"not a model", relu()[:40]], ids=["empty", "text", "truncated"])
def test_files_that_are_not_models(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx: not a model"):
        onnx_to_ncnn(path)


def test_absent_file(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx: there is no such file"):
        onnx_to_ncnn(tmp_path / "absent.onnx")


@pytest.mark.parametrize("length", ["batch", None])
def test_dynamic_shapes(length):
    with pytest.raises(ModelError, match=r"input 'x' has the dynamic shape .*fixed shape"):
        onnx_to_ncnn(relu((length, 4)))


def test_other_types_of_inputs():
    node = helper.make_node("Relu", ["x"], ["y"])
    content = model([node], [("x", TensorProto.DOUBLE, (1, 4))], [("y", TensorProto.DOUBLE, (1, 4))])
    with pytest.raises(MeasurementError, match="input 'x' is not float32"):
        onnx_to_ncnn(content)


def test_a_missing_converter_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pnnx", None)
    with pytest.raises(MeasurementError, match=r"needs pnnx; install it with: pip install ncnn pnnx"):
        onnx_to_ncnn(relu())


@needs_pnnx
@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (subprocess.CompletedProcess([], -11, b"pass_level2\n", b""), r"exit code -11\): pass_level2"),
        (subprocess.CompletedProcess([], 255, b"", b""), r"exit code 255\): no message"),
        (PermissionError("pnnx"), "pnnx cannot convert it: pnnx"),
        (subprocess.TimeoutExpired("pnnx", 600), "timed out after 600 seconds"),
    ],
)
def test_a_converter_that_fails(monkeypatch, outcome, message):
    def run(*arguments, **options):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(MeasurementError, match=message):
        onnx_to_ncnn(relu())
