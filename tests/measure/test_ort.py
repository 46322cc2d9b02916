"""ONNX Runtime for real; nothing here depends on how fast this machine is."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import onnx
import pytest
from models import FLOAT, matmul, model, relu
from onnx import TensorProto, helper

from netadapt.errors import MeasurementError, ModelError, UnknownNameError
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.measurement import STATUSES
from netadapt.measure.nchwc import block_channels, without_border_conversions
from netadapt.measure.ort import OrtProgram, optimised
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

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
    import getpass
    import platform

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
    with pytest.raises((ModelError, MeasurementError), match="(?s)Frobnicate|com.example"):
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


def test_a_model_that_fails_when_it_runs(device):
    # The shape that is asked for does not fit the 4 values; only running it shows that.
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    reshape = model([node], [("x", FLOAT, (4,)), ("shape", TensorProto.INT64, (1,))], [("y", FLOAT, None)])
    with pytest.raises(ModelError, match="fails when it is run"):
        OrtProgram(
            model(
                [helper.make_node("Reshape", ["x", "s"], ["y"]), helper.make_node("Gather", ["x", "i"], ["z"])],
                [("x", FLOAT, (4,)), ("s", TensorProto.INT64, (1,))],
                [("y", FLOAT, None), ("z", FLOAT, None)],
                [("i", np.array([9], np.int64))],
            )
        )
    assert reshape


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
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MeasurementError, match="ort-local needs onnxruntime .*pip install onnxruntime"):
        open_device("ort-local")


class TestBlockedLayout:
    @pytest.fixture(scope="class")
    def block(self):
        block = block_channels(optimised(workload_to_onnx(Workload("conv", (1,), 1))))
        if block is None:
            pytest.skip("onnxruntime does not use a blocked layout on this CPU")
        return block

    def test_conversions_go_and_shapes_are_whole_blocks(self, block):
        workload = Workload("conv", (40,), 72, (5, 5), bias=True)
        inner = onnx.load_model_from_string(
            without_border_conversions(optimised(workload_to_onnx(workload)), block)
        )
        assert [node.op_type for node in inner.graph.node] == ["Conv"]
        for value, channels in ((inner.graph.input[0], 40), (inner.graph.output[0], 72)):
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            assert dims == [1, -(-channels // block) * block, 5, 5]

    def test_the_first_convolution_of_a_network_reads_plain_images(self, block):
        workload = Workload("conv", (3,), 32, (8, 8), (3, 3), (2, 2), (1, 1))
        inner = onnx.load_model_from_string(
            without_border_conversions(optimised(workload_to_onnx(workload)), block)
        )
        assert [dim.dim_value for dim in inner.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]

    def test_it_still_computes_the_same(self, block):
        import onnxruntime

        plain = workload_to_onnx(CONV)
        inner = without_border_conversions(optimised(plain), block)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(inner, options, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(0).standard_normal((1, 32, 6, 6)).astype(np.float32)
        result = session.run(None, {session.get_inputs()[0].name: to_blocks(image, block)})[0]
        expected = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"]).run(None, {"x0": image})[0]
        np.testing.assert_allclose(result, to_blocks(expected, block), rtol=1e-4, atol=1e-5)

    def test_nothing_to_take_off(self, block):
        assert without_border_conversions(optimised(workload_to_onnx(EMPTY_RUN)), block) is None
        assert without_border_conversions(optimised(workload_to_onnx(Workload("linear", (8,), 4))), block) is None

    def test_the_form_is_recorded(self, block, device):
        assert device.measure_workload(CONV).provenance.form == "blocked"
        assert device.measure_workload(Workload("linear", (8,), 4)).provenance.form == "model"

    def test_without_blocks_the_model_is_measured_as_it_is(self, block, monkeypatch):
        monkeypatch.setattr("netadapt.measure.ort._block_channels", lambda: None)
        with open_device("ort-local") as device:
            assert device.measure_workload(CONV).provenance.form == "model"


def to_blocks(image, block):
    """[1, C, H, W] in memory order [C / block, H, W, block]; C must be whole blocks."""
    _, channels, height, width = image.shape
    parts = image.reshape(channels // block, block, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(parts).reshape(1, channels, height, width)
