"""Weights become 0, and nothing that a computation's course depends on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import FLOAT, model

from netadapt.errors import ModelError
from netadapt.measure.zeroed import zeroed_onnx
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx


def constants(content):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer}


def ones(*shape):
    return np.ones(shape, np.float32)


def run(content, *inputs):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def test_a_convolution_computes_zeros_from_a_file_of_the_same_size():
    original = workload_to_onnx(Workload("conv", (8,), 32, (4, 4), (3, 3), bias=True, activation="relu6"))
    content = zeroed_onnx(original)
    assert len(content) == len(original)
    before, after = constants(original), constants(content)
    assert {name: array.shape for name, array in after.items()} == {name: array.shape for name, array in before.items()}
    assert not after["weight"].any()
    assert not after["bias"].any()
    assert after["six_high"] == 6
    assert run(content, ones(1, 8, 4, 4)).tolist() == np.zeros((1, 32, 2, 2)).tolist()


def test_a_batch_norm_keeps_its_variance_and_stays_finite():
    content = zeroed_onnx(workload_to_onnx(Workload("batch_norm", (32,), 32, (2, 2))))
    after = constants(content)
    assert not after["gamma"].any()
    assert after["variance"].tolist() == [1.0] * 32
    assert not run(content, ones(1, 32, 2, 2)).any()


@pytest.mark.parametrize(("size", "zero"), [(16, False), (17, True)])
def test_few_elements_are_not_taken_for_weights(size, zero):
    node = helper.make_node("Add", ["x", "w"], ["y"])
    content = model([node], [("x", FLOAT, (size,))], [("y", FLOAT, (size,))], [("w", ones(size))])
    assert constants(zeroed_onnx(content))["w"].any() != zero


@pytest.mark.parametrize("op", ["Div", "Pow", "Max"])
def test_other_operators_keep_their_tensors(op):
    node = helper.make_node(op, ["x", "w"], ["y"])
    content = model([node], [("x", FLOAT, (20,))], [("y", FLOAT, (20,))], [("w", ones(20))])
    assert constants(zeroed_onnx(content))["w"].all()


def test_a_tensor_with_another_use_is_kept():
    nodes = [helper.make_node("Mul", ["x", "w"], ["z"]), helper.make_node("Div", ["z", "w"], ["y"])]
    content = model(nodes, [("x", FLOAT, (20,))], [("y", FLOAT, (20,))], [("w", ones(20))])
    assert constants(zeroed_onnx(content))["w"].all()


def test_a_tensor_that_a_branch_reads_is_kept():
    result = [helper.make_tensor_value_info("r", FLOAT, (20,))]
    branches = [helper.make_graph([helper.make_node(op, ["w", "w"], ["r"])], op, [], result) for op in ("Add", "Mul")]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    content = model([node], [("c", TensorProto.BOOL, ())], [("y", FLOAT, (20,))], [("w", ones(20))])
    assert run(zeroed_onnx(content), np.array(True)).tolist() == [2.0] * 20


def test_integers_and_a_result_that_is_a_constant_are_kept():
    nodes = [helper.make_node("Add", ["x", "i"], ["y"])]
    content = model(
        nodes,
        [("x", TensorProto.INT64, (20,))],
        [("y", TensorProto.INT64, (20,)), ("w", FLOAT, (20,))],
        [("i", np.ones(20, np.int64)), ("w", ones(20))],
    )
    after = constants(zeroed_onnx(content))
    assert after["i"].all()
    assert after["w"].all()


def test_values_that_are_stored_one_by_one():
    node = helper.make_node("Add", ["x", "w"], ["y"])
    proto = onnx.load_from_string(model([node], [("x", FLOAT, (20,))], [("y", FLOAT, (20,))]))
    proto.graph.initializer.append(helper.make_tensor("w", FLOAT, (20,), [1.0] * 20))
    after = constants(zeroed_onnx(proto.SerializeToString()))["w"]
    assert after.shape == (20,)
    assert not after.any()


def test_not_a_model():
    with pytest.raises(ModelError, match="not a model that onnx can read"):
        zeroed_onnx(b"not a model")
