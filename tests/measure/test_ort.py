"""ONNX Runtime for real; nothing here depends on how fast this machine is."""

from __future__ import annotations

import getpass
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import FLOAT, matmul, model, relu

from netadapt.errors import MeasurementError, ModelError, UnknownNameError
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.measurement import STATUSES
from netadapt.measure.ort import OrtProgram
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.workload import EMPTY_RUN, Workload

CONV = Workload("conv", (32,), 48, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")


@pytest.fixture(scope="module")
def device():
    with open_device("ort-local") as device:
        yield device


def test_a_measurement_says_what_and_where_from(device):
    measurement = device.measure(matmul(64))
    assert (measurement.metric, measurement.unit, measurement.tier) == ("latency", "ns", "local")
    assert measurement.status in STATUSES
    assert 0 < measurement.minimum <= measurement.value <= measurement.median
    source = measurement.provenance
    assert (source.platform, source.requested) == ("ort-local", "ort-local")
    assert source.fingerprint == device.fingerprint == fingerprint(load_platform("ort-local"))
    assert (source.runtime, source.runtime_version) == ("onnxruntime", metadata.version("onnxruntime"))
    assert source.protocol_version == PROTOCOL_VERSION
    assert datetime.fromisoformat(source.date).date() <= datetime.now(UTC).date()
    assert source.form == "model"


def test_provenance_names_neither_host_nor_user(device):
    text = device.measure(relu()).to_json()
    assert platform.node() not in text
    assert f'"{getpass.getuser()}"' not in text


def test_a_file_and_its_contents_are_the_same_to_it(device, tmp_path):
    path = tmp_path / "relu.onnx"
    path.write_bytes(relu())
    assert device.measure(path).provenance == device.measure(relu()).provenance


def test_every_kind_of_workload_can_be_measured(device):
    for workload in (
        EMPTY_RUN,
        CONV,
        Workload("linear", (8,), 4),
        Workload("add", (3, 3), 3, (4, 4)),
        Workload("global_avg_pool", (16,), 16, (4, 4)),
    ):
        assert device.measure_workload(workload).value > 0


def test_unknown_metric(device):
    with pytest.raises(UnknownNameError, match="unknown metric of platform ort-local 'energy'"):
        device.measure(relu(), "energy")


@pytest.mark.parametrize("content", [b"", b"not a model", relu()[:40]], ids=["empty", "text", "truncated"])
def test_files_that_are_not_models(device, tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx: not a model"):
        device.measure(path)
    with pytest.raises(ModelError, match=r"bad\.onnx"), device.load(path):
        pass


def test_absent_file(device, tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx: there is no such file"):
        device.measure(tmp_path / "absent.onnx")


@pytest.mark.parametrize("length", ["batch", None])
def test_dynamic_shapes(device, length):
    with pytest.raises(ModelError, match=r"input 'x' has the dynamic shape .*fixed shape"):
        device.measure(relu((length, 4)))


def test_unknown_operator(device):
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    unknown = model([node], [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 4))], domains=["com.example"])
    with pytest.raises((ModelError, MeasurementError), match="Frobnicate"):
        device.measure(unknown)


def test_a_type_without_a_kernel(device):
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    half = model(
        [node],
        [("x", TensorProto.BFLOAT16, (1, 1, 4, 4)), ("w", TensorProto.BFLOAT16, (1, 1, 1, 1))],
        [("y", TensorProto.BFLOAT16, (1, 1, 4, 4))],
        opset=22,
    )
    with pytest.raises((ModelError, MeasurementError)):
        device.measure(half)


def test_a_model_that_fails_when_it_runs():
    # The table has 4 rows; that row 9 is asked for shows only when it runs.
    node = helper.make_node("Gather", ["x", "row"], ["y"])
    gather = model([node], [("x", FLOAT, (4, 2))], [("y", FLOAT, (1, 2))], [("row", np.array([9], np.int64))])
    with pytest.raises(ModelError, match="fails when it is run"):
        OrtProgram(gather)


def test_other_input_types(device):
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    gather = model(
        [node],
        [("index", TensorProto.INT64, (3,))],
        [("y", FLOAT, (3, 2))],
        [("table", np.ones((5, 2), np.float32))],
    )
    assert device.measure(gather).value > 0


def test_a_model_of_unknown_output_shape(device):
    node = helper.make_node("NonZero", ["x"], ["y"])
    nonzero = model([node], [("x", FLOAT, (2, 2))], [("y", TensorProto.INT64, (2, "n"))])
    assert device.measure(nonzero).value > 0


def test_checks_of_this_machine():
    checks = check_platform(load_platform("ort-local"))
    assert [check.what for check in checks] == ["onnxruntime", "cores", "measuring"]
    assert checks[0].ok
    assert checks[1].ok
    assert "an empty run takes" in checks[2].detail


def test_a_missing_runtime_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MeasurementError, match=r"ort-local needs onnxruntime .*pip install onnxruntime"):
        open_device("ort-local")


def test_the_form_of_a_workload_is_recorded(device):
    assert device.measure_workload(CONV).provenance.form == "interior"
    # Nothing is left of it inside a network.
    assert device.measure_workload(Workload("activation", (4,), 4)).provenance.form == "model"


def test_a_program_knows_the_memory_it_touches():
    content = matmul(64)
    assert OrtProgram(content).bytes == len(content) + 2 * 8 * 64 * 4
