"""TVM on this machine for real; nothing here depends on how fast it is."""

from __future__ import annotations

import sys
from importlib import metadata

import numpy as np
import pytest

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from onnx import TensorProto, helper
from tvm_models import model

from netadapt.errors import KernelInvalid, MeasurementError, ModelError, UnknownNameError
from netadapt.lut.fill import fill
from netadapt.lut.store import Table
from netadapt.measure import machine
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.local import in_turn
from netadapt.measure.measurement import STATUSES
from netadapt.measure.platform import Limits, TvmTarget, load_platform
from netadapt.measure.tvm import kernels
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.local import TvmProgram
from netadapt.measure.tvm.reference import example
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)
CONV = Workload("conv", (8,), 16, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")
#: Times are not looked at, so they need not be good.
QUICK = load_platform("tvm-local").model_copy(
    update={"protocol": Limits(workload_time_limit_s=0.1, network_time_limit_s=0.1)}
)


def small_network(last="Softmax"):
    """Two convolutions and an operator after them."""
    random = np.random.default_rng(0)
    nodes = [
        ("Conv", ["x", "w0"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], ["b"], {}),
        ("Conv", ["b", "w1"], ["c"], {}),
        (last, ["c"], ["y"], {}),
    ]
    weights = [("w0", (8, 3, 3, 3)), ("w1", (12, 8, 1, 1))]
    constants = [(name, random.standard_normal(shape).astype(np.float32)) for name, shape in weights]
    return model(nodes, [("x", (1, 3, 7, 7))], [("y", (1, 12, 7, 7))], constants)


@pytest.fixture(scope="module")
def device():
    with open_device(QUICK) as device:
        yield device


@pytest.fixture
def wrong_for_16_channels(monkeypatch):
    """A compiler that makes a mistake with the weights of some layers."""
    right = kernels.packed

    def packed(weights, tile, unit):
        return right(weights, tile, unit) + np.float32(weights.shape[1] == 16)

    monkeypatch.setattr(kernels, "packed", packed)


def test_a_measurement_says_what_and_where_from(device):
    measurement = device.measure(small_network())
    assert (measurement.metric, measurement.unit, measurement.tier) == ("latency", "ns", "local")
    assert measurement.status in STATUSES
    assert 0 < measurement.minimum <= measurement.value <= measurement.median
    source = measurement.provenance
    assert (source.platform, source.requested) == ("tvm-local", "tvm-local")
    assert source.fingerprint == device.fingerprint == fingerprint(load_platform("tvm-local"))
    assert (source.runtime, source.runtime_version) == ("apache-tvm", metadata.version("apache-tvm"))
    assert source.machine == machine.cpu_model()
    assert source.form == "model"


def test_workloads_are_measured_as_they_run_inside_a_network(device):
    for workload in (EMPTY_RUN, CONV, Workload("linear", (8,), 4), Workload("add", (3, 3), 3, (4, 4))):
        measurement = device.measure_workload(workload)
        assert measurement.value > 0
        assert measurement.provenance.form == "interior"


def test_details_name_slow_kernels_and_the_difference(device):
    details = device.details(small_network())
    assert ["softmax" in name for name in details["general_kernels"]] == [True]
    assert 0 <= details["max_abs_difference"] < 1e-5
    assert device.details(small_network("Tanh"))["general_kernels"] == []


def test_a_wrong_result_is_told_and_never_timed(device, wrong_for_16_channels):
    with pytest.raises(KernelInvalid, match=r"^conv 8->16 6x6 k3x3 s1 relu: output 0 differs .*it was not timed"):
        device.measure_workload(CONV)
    model_of_it = workload_to_onnx(CONV)
    for measure in (device.measure, device.details):
        with pytest.raises(KernelInvalid, match=r"^model: output 0 differs"):
            measure(model_of_it)
    with pytest.raises(KernelInvalid), device.load(model_of_it):
        pass


def test_a_wrong_result_never_enters_a_table(device, tmp_path, wrong_for_16_channels):
    right = Workload("conv", (8,), 12, (6, 6))
    with Table.open(tmp_path / "table.sqlite") as table:
        for workload in (right, CONV):
            try:
                fill(table, device, [workload])
            except KernelInvalid:
                assert workload == CONV
        assert table.get(device.fingerprint, right) is not None
        assert table.get(device.fingerprint, CONV) is None


def test_copies_of_a_program_share_no_memory_and_give_the_same_result():
    content = workload_to_onnx(Workload("linear", (512,), 256, bias=True))
    runtime = load_platform("tvm-local").runtime
    program = TvmProgram(compile_model(content, runtime), example(content), "model")
    assert program.bytes > 512 * 256 * 4
    other = program.another()
    assert other is not program
    assert other.difference == program.difference
    run = in_turn(program)
    for _ in range(9):
        run()


def test_code_for_another_core_has_another_fingerprint():
    platform = load_platform("tvm-local")
    target = TvmTarget(kind="llvm", mcpu="nehalem")
    other = platform.model_copy(update={"runtime": platform.runtime.model_copy(update={"target": target})})
    assert fingerprint(other) != fingerprint(platform)
    assert fingerprint(QUICK) == fingerprint(platform)


def test_unknown_metric(device):
    with pytest.raises(UnknownNameError, match="unknown metric of platform tvm-local 'energy'"):
        device.measure(small_network(), "energy")


@pytest.mark.parametrize("content", [b"", b"not a model", small_network()[:60]], ids=["empty", "text", "truncated"])
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


def test_other_input_types(device):
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, (3,)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "test", values[:1], values[1:])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with pytest.raises(ModelError, match=r"input 'x' has type tensor\(int64\); compiled models take tensor\(float\)"):
        device.measure(content)


def test_dynamic_shapes(device):
    content = model([("Relu", ["x"], ["y"], {})], [("x", ("batch", 4))], [("y", ("batch", 4))])
    with pytest.raises(ModelError, match=r"input 'x' has the dynamic shape .*fixed shape"):
        device.measure(content)


def test_an_operator_that_tvm_lacks(device):
    det = model([("Det", ["x"], ["y"], {})], [("x", (1, 3, 3))], [("y", (1,))])
    with pytest.raises(MeasurementError, match=r"model: TVM cannot import it: .*Det"):
        device.measure(det)


def test_checks_of_this_machine():
    checks = check_platform(QUICK)
    assert [check.what for check in checks] == ["apache-tvm", "apache-tvm-ffi", "cores", "measuring"]
    assert all(check.ok for check in checks[:3])
    assert "an empty run takes" in checks[3].detail


def test_missing_tvm_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(MeasurementError, match=r"needs Apache TVM .*pip install '\.\[tvm\]' in a clone of netadapt"):
        open_device("tvm-local")
    measuring = check_platform(load_platform("tvm-local"))[-1]
    assert not measuring.ok
    assert "pip install" in measuring.detail
