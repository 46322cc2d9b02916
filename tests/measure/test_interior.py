"""What is cut off an optimised model, and that it still computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import matmul

from netadapt.measure.interior import block_channels, interior, with_neighbours
from netadapt.measure.ort import optimised
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

CONV = Workload("conv", (32,), 48, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")


def cut(workload, block):
    return interior(optimised(with_neighbours(workload_to_onnx(workload), workload)), workload, block)


def interior_of(workload, block):
    return onnx.load_model_from_string(cut(workload, block))


def operations(model):
    return [node.op_type for node in model.graph.node]


def shape(value):
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def run(model, inputs, optimise):
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def to_blocks(image, block):
    """[1, C, H, W] in memory order [C / block, H, W, block]; C must be whole blocks."""
    _, channels, height, width = image.shape
    parts = image.reshape(channels // block, block, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(parts).reshape(1, channels, height, width)


@pytest.fixture(scope="module")
def block():
    block = block_channels(optimised(workload_to_onnx(Workload("conv", (1,), 1))))
    if block == 1:
        pytest.skip("onnxruntime does not use a blocked layout on this CPU")
    return block


def test_conversions_go_and_shapes_are_whole_blocks(block):
    model = interior_of(Workload("conv", (40,), 72, (5, 5), bias=True), block)
    assert operations(model) == ["Conv"]
    assert shape(model.graph.input[0]) == [1, -(-40 // block) * block, 5, 5]


def test_the_first_convolution_of_a_network_reads_plain_images(block):
    model = interior_of(Workload("conv", (3,), 32, (8, 8), (3, 3), (2, 2), (1, 1)), block)
    assert shape(model.graph.input[0]) == [1, 3, 8, 8]
    assert operations(model) == ["Conv"]


def test_it_still_computes_the_same_in_blocks(block):
    image = np.random.default_rng(0).standard_normal((1, 32, 6, 6)).astype(np.float32)
    result = run(cut(CONV, block), [to_blocks(image, block)], optimise=False)
    expected = run(workload_to_onnx(CONV), [image], optimise=True)
    np.testing.assert_allclose(result, to_blocks(expected, block), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["relu", "relu6", "hardswish", "hardsigmoid", "sigmoid"])
def test_activations_are_fused_into_convolutions_as_in_a_network(block, kind):
    version = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    if kind == "hardswish" and version < (1, 32):
        pytest.skip("known of 1.32 and later only")
    workload = Workload("conv", (32,), 32, (6, 6), bias=True, activation=kind)
    assert operations(interior_of(workload, block)) == ["Conv"]


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (Workload("max_pool", (64,), 64, (8, 8), (3, 3), (2, 2)), ["MaxPool"]),
        (Workload("global_avg_pool", (64,), 64, (8, 8)), ["GlobalAveragePool"]),
        (Workload("concat", (32, 64), 96, (8, 8)), ["Concat"]),
        (Workload("add", (32, 32), 32, (8, 8)), ["Add"]),
        # What cannot work on blocks costs a network the conversions around it.
        (Workload("scale", (64, 64), 64, (8, 8)), ["ReorderOutput", "ReorderOutput", "Mul", "ReorderInput"]),
        (Workload("conv", (40,), 40, (8, 8), groups=4), ["ReorderOutput", "Conv", "ReorderInput"]),
    ],
    ids=str,
)
def test_conversions_stay_where_the_operation_needs_them(block, workload, expected):
    assert operations(interior_of(workload, block)) == expected


@pytest.mark.parametrize("optimiser_uses_blocks", [True, False])
def test_every_neighbour_is_cut_off(block, optimiser_uses_blocks):
    """Where convolutions are not in blocks, as on some CPUs, nothing but the neighbours goes."""
    workload = Workload("concat", (32, 32), 64, (4, 4))
    model = with_neighbours(workload_to_onnx(workload), workload)
    assert operations(onnx.load_model_from_string(model)) == ["Conv", "Conv", "Concat", "Conv"]
    inner = onnx.load_model_from_string(interior(optimised(model) if optimiser_uses_blocks else model, workload, block))
    assert operations(inner) == ["Concat"]
    assert [shape(value) for value in inner.graph.input] == [[1, 32, 4, 4]] * 2


def test_a_linear_layer_computes_the_same(block):
    workload = Workload("linear", (12,), 5, bias=True, activation="relu")
    values = np.random.default_rng(0).standard_normal((1, 12)).astype(np.float32)
    expected = run(workload_to_onnx(workload), [values], optimise=True)
    np.testing.assert_allclose(run(cut(workload, block), [values], optimise=False), expected, rtol=1e-5, atol=1e-6)


def test_the_empty_run_keeps_its_one_node(block):
    assert operations(interior_of(EMPTY_RUN, block)) == ["Relu"]


def test_nothing_is_left_of_nothing(block):
    assert cut(Workload("activation", (4,), 4), block) is None


def test_a_model_without_neighbours_is_refused(block):
    assert interior(optimised(workload_to_onnx(CONV)), CONV, block) is None
    assert interior(matmul(8), Workload("linear", (8,), 8), block) is None
