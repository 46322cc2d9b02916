"""Each operation against torch, with the weights read back from the model."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from netadapt.network.workload import ACTIVATIONS, EMPTY_RUN, OPS, Workload
from netadapt.network.workload_onnx import input_shapes, output_shape, workload_to_onnx

ACTIVATION_FUNCTIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def run(workload, inputs):
    session = onnxruntime.InferenceSession(workload_to_onnx(workload), providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{index}": value for index, value in enumerate(inputs)})[0]


def random_inputs(workload):
    generator = np.random.default_rng(1)
    return [generator.standard_normal(shape).astype(np.float32) * 3 for shape in input_shapes(workload)]


def constants(workload):
    model = onnx.load_model_from_string(workload_to_onnx(workload))
    return {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}


def expected(workload, inputs):
    tensors, weights = [torch.from_numpy(value) for value in inputs], constants(workload)
    return ACTIVATION_FUNCTIONS[workload.activation](OPERATIONS[workload.op](workload, tensors, weights)).numpy()


OPERATIONS = {
    "conv": lambda w, x, c: F.conv2d(x[0], c["weight"], c.get("bias"), w.stride, w.padding, w.dilation, w.groups),
    "linear": lambda w, x, c: F.linear(x[0], c["weight"] if w.bias else c["weight"].T, c.get("bias")),
    "max_pool": lambda w, x, c: F.max_pool2d(x[0], w.kernel, w.stride, w.padding, w.dilation, w.ceil_mode),
    "avg_pool": lambda w, x, c: F.avg_pool2d(x[0], w.kernel, w.stride, w.padding, w.ceil_mode, w.count_include_pad),
    "global_avg_pool": lambda w, x, c: F.adaptive_avg_pool2d(x[0], 1),
    "add": lambda w, x, c: sum(x[1:], x[0]),
    "mul": lambda w, x, c: x[0] * x[1],
    "scale": lambda w, x, c: x[0] * x[1],
    "concat": lambda w, x, c: torch.cat(x, 1),
    "batch_norm": lambda w, x, c: F.batch_norm(x[0], c["mean"], c["variance"], c["gamma"], c["beta"]),
    "activation": lambda w, x, c: x[0],
}

WORKLOADS = [
    Workload("conv", (5,), 7, (9, 8), (3, 3), (2, 1), (1, 0), bias=True, activation="relu"),
    Workload("conv", (6,), 4, (9, 9), (3, 3), (1, 1), (2, 2), (2, 2), groups=2),
    Workload("conv", (6,), 6, (7, 7), (5, 5), (1, 1), (2, 2), groups=6, bias=True, batch=2),
    Workload("linear", (10,), 4, bias=True),
    Workload("linear", (10,), 4, activation="hardswish", batch=3),
    Workload("max_pool", (3,), 3, (8, 8), (3, 3), (2, 2), (1, 1)),
    Workload("max_pool", (3,), 3, (8, 8), (3, 3), (2, 2), (0, 0), ceil_mode=True),
    Workload("max_pool", (3,), 3, (9, 9), (2, 2), (1, 1), (0, 0), (2, 2)),
    Workload("avg_pool", (3,), 3, (8, 8), (3, 3), (2, 2), (1, 1), count_include_pad=True),
    Workload("avg_pool", (3,), 3, (8, 8), (3, 3), (2, 2), (1, 1), count_include_pad=False),
    Workload("avg_pool", (3,), 3, (8, 8), (3, 3), (2, 2), (0, 0), ceil_mode=True),
    Workload("global_avg_pool", (4,), 4, (5, 6)),
    Workload("add", (3, 3), 3, (4, 4), activation="relu"),
    Workload("add", (3, 3, 3), 3, (4, 4)),
    Workload("mul", (3, 3), 3, (4, 4)),
    Workload("scale", (3, 3), 3, (4, 5)),
    Workload("concat", (2, 3, 1), 6, (4, 4)),
    Workload("batch_norm", (3,), 3, (4, 4), activation="relu6"),
    *(Workload("activation", (2,), 2, (3, 3), activation=kind) for kind in ACTIVATIONS),
    EMPTY_RUN,
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_computes_what_torch_computes(workload):
    inputs = random_inputs(workload)
    result = run(workload, inputs)
    assert result.shape == output_shape(workload)
    np.testing.assert_allclose(result, expected(workload, inputs), rtol=1e-4, atol=1e-5)


def test_every_operation_is_tested():
    assert {workload.op for workload in WORKLOADS} == set(OPS)


def test_pointwise_convolution_by_hand():
    workload = Workload("conv", (2,), 1, (1, 2))
    weight = constants(workload)["weight"].numpy().reshape(2)
    image = np.array([[[[1, 2]], [[10, 20]]]], np.float32)
    by_hand = [weight[0] * 1 + weight[1] * 10, weight[0] * 2 + weight[1] * 20]
    np.testing.assert_allclose(run(workload, [image]).reshape(2), by_hand, rtol=1e-6)


@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    ceil_mode=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_pools_have_the_size_that_the_workload_says(size, kernel, stride, padding, ceil_mode):
    padding = min(padding, kernel // 2)
    workload = Workload(
        "max_pool", (2,), 2, size, (kernel, kernel), (stride, stride), (padding, padding), ceil_mode=ceil_mode
    )
    inputs = random_inputs(workload)
    result = run(workload, inputs)
    assert result.shape == output_shape(workload)
    np.testing.assert_array_equal(result, expected(workload, inputs))


def test_same_seed_same_bytes_other_seed_other_weights():
    workload = Workload("conv", (4,), 4, (3, 3))
    assert workload_to_onnx(workload, seed=1) == workload_to_onnx(workload, seed=1)
    assert workload_to_onnx(workload, seed=1) != workload_to_onnx(workload, seed=2)


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_models_are_valid_and_old_enough_for_every_runtime(workload):
    model = onnx.load_model_from_string(workload_to_onnx(workload))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert model.opset_import[0].version <= 20


def test_weights_are_neither_denormal_nor_infinite():
    for tensor in constants(Workload("conv", (256,), 64, (3, 3), bias=True)).values():
        magnitudes = tensor.abs()[tensor != 0]
        assert magnitudes.min() > 1e-30
        assert magnitudes.max() < 10
