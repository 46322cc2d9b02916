"""ONNX into TVM: which layout images get, and what is not taken."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tvm_models import model

pytest.importorskip("tvm", reason="Apache TVM is not installed")

import tvm
from tvm import relax

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.platform import TvmTarget
from netadapt.measure.tvm.compile import compiler_target
from netadapt.measure.tvm.cpu import cpu_pipeline
from netadapt.measure.tvm.importing import imported, interior, tensors
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

WORKLOADS = [
    Workload("conv", (8,), 12, (6, 5), (3, 3), (1, 1), (1, 1), bias=True, activation="relu6"),
    Workload("conv", (3,), 12, (6, 5), (3, 3), (2, 2), (1, 1)),
    # With these, no length tells one axis from another.
    Workload("conv", (14,), 14, (14, 14), (3, 3), (1, 1), (1, 1), groups=14, bias=True, activation="hardswish"),
    Workload("max_pool", (8,), 8, (6, 5), (2, 2), (2, 2)),
    Workload("avg_pool", (14,), 14, (14, 14), (3, 3), (1, 1), (1, 1)),
    Workload("global_avg_pool", (8,), 8, (6, 5)),
    Workload("add", (8, 8), 8, (6, 5), activation="relu"),
    Workload("mul", (8, 8), 8, (6, 5)),
    Workload("scale", (14, 14), 14, (14, 14)),
    Workload("concat", (8, 3, 5), 16, (6, 5)),
    Workload("batch_norm", (14,), 14, (14, 14), activation="silu"),
    Workload("activation", (8,), 8, (6, 5), activation="tanh"),
    Workload("linear", (8,), 12, bias=True),
]


def operators(module):
    """Names of the operators of a model, in no order."""
    found = []

    def visit(expression):
        if isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op):
            found.append(expression.op.name)

    relax.analysis.post_order_visit(module["main"], visit)
    return found


def shape(variable):
    return tuple(int(length) for length in variable.ty.shape)


def run(module, *inputs):
    """The output of a model, by TVM's own kernels."""
    executable = tvm.compile(module, target="llvm")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*(tvm.runtime.tensor(array) for array in inputs)).numpy()


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_inside_a_network_no_image_is_turned(workload):
    content = workload_to_onnx(workload)
    module = interior(content)
    assert "relax.permute_dims" not in operators(module)
    inputs, (output,) = tensors(content, moved=True)
    assert [shape(param) for param in module["main"].params] == [
        tuple(tensor.shape[axis] for axis in tensor.axes) for tensor in inputs
    ]
    assert shape(module["main"].body) == tuple(output.shape[axis] for axis in output.axes)
    assert all(tensor.axes == ((0, 2, 3, 1) if len(tensor.shape) == 4 else (0, 1)) for tensor in (*inputs, output))


@pytest.mark.parametrize("workload", [workload for workload in WORKLOADS if workload.in_size == (14, 14)], ids=str)
def test_images_of_equal_lengths_are_turned_the_right_way(workload):
    content = workload_to_onnx(workload)
    inputs, (output,) = tensors(content, moved=True)
    arrays = [np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32) for tensor in inputs]
    right = run(imported(content), *arrays)
    turned = run(interior(content), *(tensor.to_device(array) for tensor, array in zip(inputs, arrays, strict=True)))
    np.testing.assert_allclose(output.from_device(turned), right, rtol=1e-4, atol=1e-5)


def test_to_the_device_and_back():
    (tensor,), _ = tensors(workload_to_onnx(Workload("activation", (2,), 2, (3, 4), activation="relu")), moved=True)
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    turned = tensor.to_device(image)
    assert turned.shape == (1, 3, 4, 2)
    assert turned.flags.c_contiguous
    assert turned[0, 1, 2, 0] == image[0, 0, 1, 2]
    np.testing.assert_array_equal(tensor.from_device(turned), image)


def test_a_whole_model_takes_images_as_its_file_has_them():
    content = workload_to_onnx(WORKLOADS[0])
    (tensor,), _ = tensors(content, moved=False)
    assert (tensor.name, tensor.shape, tensor.dtype, tensor.axes) == ("x0", (1, 8, 6, 5), "float32", (0, 1, 2, 3))
    assert shape(imported(content)["main"].params[0]) == (1, 8, 6, 5)


def test_weights_that_older_files_list_among_the_inputs_are_none():
    old = onnx.load_model_from_string(workload_to_onnx(WORKLOADS[0]))
    weight = old.graph.initializer[0]
    old.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    inputs, _ = tensors(old.SerializeToString(), moved=False)
    assert [tensor.name for tensor in inputs] == ["x0"]
    assert len(imported(old.SerializeToString())["main"].params) == 1


def bounded_twice():
    """A convolution, a limit as opset 11 and later have it (bounds are tensors), and another convolution."""
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    nodes = [
        ("Conv", ["x", "w"], ["a"], {}),
        ("Clip", ["a", "low", "high"], ["b"], {}),
        ("Conv", ["b", "w"], ["c"], {}),
        ("Clip", ["c", "low", ""], ["y"], {}),
    ]
    constants = [("w", weight), ("low", np.float32(0)), ("high", np.float32(6))]
    return model(nodes, [("x", (1, 8, 8, 8))], [("y", (1, 8, 4, 4))], constants)


def test_limits_are_fused_into_the_convolutions_before_them():
    module = cpu_pipeline(compiler_target(TvmTarget(kind="llvm")))(imported(bounded_twice()))
    kernels = [var.name_hint for var, function in module.functions_items() if isinstance(function, tvm.tirx.PrimFunc)]
    # One turns the image, and two convolutions do the rest; the last one's output is turned back.
    convolutions = [name for name in kernels if "convolution" in name]
    assert len(convolutions) == 2
    assert all("maximum" in name for name in convolutions)
    assert len(kernels) == 4


@pytest.mark.parametrize("content", [b"", b"nonsense"], ids=["empty", "text"])
def test_what_is_not_a_model(content):
    for read in (imported, interior):
        with pytest.raises(ModelError, match=r"^net\.onnx: not a valid ONNX model"):
            read(content, "net.onnx")


def test_a_graph_that_is_not_valid():
    broken = model([("Relu", ["nowhere"], ["y"], {})], [("x", (1, 4))], [("y", (1, 4))])
    with pytest.raises(ModelError, match=r"^net\.onnx: not a valid ONNX model.*nowhere"):
        imported(broken, "net.onnx")


def test_an_operator_that_tvm_lacks_is_told():
    # Valid ONNX.
    strange = model([("Det", ["x"], ["y"], {})], [("x", (1, 3, 3))], [("y", (1,))])
    with pytest.raises(MeasurementError, match=r"^net\.onnx: TVM cannot import it: .*Det"):
        imported(strange, "net.onnx")
