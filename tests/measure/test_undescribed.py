"""Models without their descriptions."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
from small_models import matmul, relu

from netadapt.errors import ModelError
from netadapt.measure.platform import load_platform
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.measure.undescribed import undescribed_onnx
from netadapt.network.export import write_onnx
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx


def described(model):
    """The same model with documentation and metadata wherever there can be any."""
    proto = onnx.load_model_from_string(model)
    proto.producer_name, proto.producer_version, proto.domain = "another program", "17", "com.example"
    proto.model_version, proto.doc_string = 12, "a model\n" * 100
    proto.graph.name, proto.graph.doc_string = "a name of a graph", "its graph"
    onnx.helper.set_model_props(proto, {"netadapt.network": "mine", "netadapt.widths": "8 " * 500})
    graph = proto.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = "a part"
    return proto.SerializeToString()


def test_descriptions_are_all_that_is_left_out():
    model = matmul(8)
    assert described(model) != model
    plain = undescribed_onnx(model)
    assert undescribed_onnx(described(model)) == plain == undescribed_onnx(plain)
    proto, before = onnx.load_model_from_string(plain), onnx.load_model_from_string(model)
    assert (proto.ir_version, proto.opset_import) == (before.ir_version, before.opset_import)
    for part in ("node", "initializer", "input", "output"):
        assert getattr(proto.graph, part) == getattr(before.graph, part)


def test_what_is_no_model_is_an_error():
    with pytest.raises(ModelError, match="not a model"):
        undescribed_onnx(b"nothing")


def test_a_guest_gets_the_same_of_a_network_and_of_its_file(tmp_path):
    runtime = guest_runtime(load_platform("sim-cortex-a72").runtime)
    write_onnx(tmp_path / "net.onnx", relu((1, 4)), {"netadapt.network": "mobilenet_v1:0.25@32"})
    request, of_file = runtime.of_model(relu((1, 4))), runtime.of_model(tmp_path / "net.onnx")
    assert dataclasses.replace(of_file, name=request.name) == request


def test_an_operation_stays_as_it_is():
    """Committed figures and tables are of these very bytes."""
    workload = Workload("linear", (4,), 4)
    request = guest_runtime(load_platform("sim-cortex-a72").runtime).of_workload(workload)
    assert request.files["model.onnx"] == workload_to_onnx(workload)
