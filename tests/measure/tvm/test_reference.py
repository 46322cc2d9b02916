"""What a compiled model has to compute, and when its result counts as another one."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from tvm_models import model

from netadapt.errors import KernelInvalid, ModelError
from netadapt.measure.tvm.reference import example, require_equal


def array(*values):
    return np.array([values], np.float32)


def typed(kind, shape, op="Identity"):
    """A model of one input and output of a type."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "test", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def relu(shape=(1, 6)):
    return typed(TensorProto.FLOAT, shape, "Relu")


def test_an_example_is_what_onnx_runtime_computes_and_always_the_same():
    first, second = example(relu()), example(relu())
    assert list(first.inputs) == ["x"]
    assert first.inputs["x"].dtype == np.float32
    assert first.inputs["x"].min() < 0 < first.inputs["x"].max()
    np.testing.assert_array_equal(first.outputs["y"], np.maximum(first.inputs["x"], 0))
    np.testing.assert_array_equal(first.inputs["x"], second.inputs["x"])


def test_the_largest_difference_is_told():
    right = [array(1, 2), array(3)]
    assert require_equal(right, right, "net") == 0
    found = [array(1, 2 + 1e-5), array(3 - 2e-5)]
    assert require_equal(found, right, "net") == pytest.approx(2e-5, rel=0.05)


@pytest.mark.parametrize("size", [0.02, 1.0, 1e3])
def test_differences_count_by_the_size_of_the_output(size):
    right = [array(0.1 * size, -size)]
    require_equal([array(0.1 * size + 0.5e-4 * size, -size)], right, "net")
    with pytest.raises(KernelInvalid, match=r"^net: output 0 differs from ONNX Runtime's by .* it was not timed"):
        require_equal([array(0.1 * size + 2e-4 * size, -size)], right, "net")


def test_small_outputs_may_not_be_a_percent_wrong():
    with pytest.raises(KernelInvalid):
        require_equal([array(1.01e-3, -1e-3)], [array(1e-3, -1e-3)], "net")


def test_where_sums_cancel_out_rounding_is_left():
    require_equal([array(5e-7)], [array(0)], "net")
    with pytest.raises(KernelInvalid):
        require_equal([array(2e-6)], [array(0)], "net")


@pytest.mark.parametrize(
    ("found", "right"), [(np.nan, 1), (np.inf, 1), (1, np.nan), (1, np.inf), (np.nan, np.nan), (np.inf, np.inf)]
)
def test_what_is_not_finite_is_never_equal(found, right):
    with pytest.raises(KernelInvalid, match="output 1 differs"):
        require_equal([array(1), array(2, found)], [array(1), array(2, right)], "net")


def test_another_shape():
    with pytest.raises(KernelInvalid, match=r"output 0 has shape \(1, 2\) on the device, expected \(1, 3\)"):
        require_equal([array(1, 2)], [array(1, 2, 3)], "net")


def test_whole_numbers_and_truth_values_are_compared_too():
    assert require_equal([np.array([1, 0])], [np.array([1, 0])], "net") == 0
    assert require_equal([np.array([True, False])], [np.array([True, False])], "net") == 0
    with pytest.raises(KernelInvalid):
        require_equal([np.array([True, False])], [np.array([True, True])], "net")


def test_what_is_not_a_model():
    with pytest.raises(ModelError, match=r"^net\.onnx: not a model that ONNX Runtime can load"):
        example(b"nonsense", "net.onnx")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT64])
def test_inputs_of_other_types(kind):
    with pytest.raises(ModelError, match=r"^net\.onnx: input 'x' has type tensor\(.*\); compiled models take"):
        example(typed(kind, (1, 4)), "net.onnx")


@pytest.mark.parametrize("shape", [("batch", 4), (None, 4)])
def test_inputs_of_dynamic_shape(shape):
    with pytest.raises(ModelError, match=r"^net\.onnx: input 'x' has the dynamic shape .*fixed shape"):
        example(relu(shape), "net.onnx")


def test_a_model_that_fails_when_it_runs():
    # The table has 4 rows; that row 9 is asked for shows only when it runs.
    gather = model([("Gather", ["x", "row"], ["y"], {})], [("x", (4, 2))], [("y", (1, 2))], [("row", np.array([9]))])
    with pytest.raises(ModelError, match=r"^net\.onnx: fails when it is run"):
        example(gather, "net.onnx")
