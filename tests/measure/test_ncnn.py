"""ncnn for real; nothing here depends on how fast this machine is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from small_models import matmul, relu

from netadapt.errors import MeasurementError, ModelError, UnknownNameError
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.measurement import STATUSES
from netadapt.measure.ncnn import NcnnProgram
from netadapt.measure.ncnn_model import workload_to_ncnn
from netadapt.measure.platform import load_platform
from netadapt.network.workload import EMPTY_RUN, Workload

pytest.importorskip("ncnn", reason="ncnn is not installed")
needs_pnnx = pytest.mark.skipif(importlib.util.find_spec("pnnx") is None, reason="pnnx is not installed")

CONV = Workload("conv", (32,), 48, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")
HARDSWISH = Workload("activation", (16,), 16, (6, 6), activation="hardswish")


@pytest.fixture(scope="module")
def device():
    with open_device("ncnn-local") as device:
        yield device


@needs_pnnx
def test_a_measurement_says_what_and_where_from(device):
    measurement = device.measure(matmul(64))
    assert (measurement.metric, measurement.unit, measurement.tier) == ("latency", "ns", "local")
    assert measurement.status in STATUSES
    assert 0 < measurement.minimum <= measurement.value <= measurement.median
    source = measurement.provenance
    assert (source.platform, source.requested, source.form) == ("ncnn-local", "ncnn-local", "model")
    assert source.fingerprint == device.fingerprint == fingerprint(load_platform("ncnn-local"))
    assert source.fingerprint != fingerprint(load_platform("ort-local"))
    assert (source.runtime, source.runtime_version) == ("ncnn", metadata.version("ncnn"))


def test_every_kind_of_workload_can_be_measured(device):
    for workload in (
        EMPTY_RUN,
        CONV,
        HARDSWISH,
        Workload("linear", (8,), 4),
        Workload("batch_norm", (3,), 3, (4, 4)),
        Workload("add", (3, 3), 3, (4, 4)),
        Workload("scale", (16, 16), 16, (4, 4)),
    ):
        measurement = device.measure_workload(workload)
        assert measurement.value > 0
        assert measurement.provenance.form == "packed"


@needs_pnnx
def test_blocks_of_a_model_for_comparisons(device, tmp_path):
    path = tmp_path / "relu.onnx"
    path.write_bytes(relu())
    with device.load(path) as source:
        source.warm_up()
        assert source.block().cost > 0


def test_unknown_metric(device):
    with pytest.raises(UnknownNameError, match="unknown metric of platform ncnn-local 'energy'"):
        device.measure(relu(), "energy")


def test_a_bad_model_is_refused(device, tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx: there is no such file"):
        device.measure(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="not a model"), device.load(b"not a model"):
        pass


def test_checks_of_this_machine():
    checks = check_platform(load_platform("ncnn-local"))
    assert [check.what for check in checks] == ["ncnn", "pnnx", "cores", "measuring"]
    assert checks[0].ok
    assert "an empty run takes" in checks[3].detail


def test_a_missing_runtime_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MeasurementError, match=r"ncnn cannot be used .*pip install ncnn pnnx"):
        open_device("ncnn-local")


@pytest.mark.parametrize("workload", [CONV, HARDSWISH, Workload("linear", (20,), 12)], ids=str)
def test_packed_programs_compute_the_same(workload):
    model = workload_to_ncnn(workload)
    plain, packed = NcnnProgram(model), NcnnProgram(model, packed=True)
    assert packed.compute()[0] == pytest.approx(plain.compute()[0], rel=1e-5, abs=1e-6)


def test_an_activation_runs_on_its_own_result_until_it_gets_a_fresh_input(monkeypatch):
    monkeypatch.setattr("netadapt.measure.ncnn._RUNS_IN_PLACE", 2)
    program = NcnnProgram(workload_to_ncnn(HARDSWISH), packed=True, in_place=True)

    def hardswish(x):
        return x * np.clip(x / 6 + 0.5, 0, 1)

    original = NcnnProgram(workload_to_ncnn(replace(HARDSWISH, activation="none"))).compute()[0]
    once, twice = hardswish(original), hardswish(hardswish(original))
    for expected in (once, twice, once, twice):
        program()
        assert plain(program._memory.tensors["again"]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    # What is asked for does not depend on how often it has run.
    assert program.compute()[0] == pytest.approx(once, rel=1e-4, abs=1e-6)


def plain(tensor):
    import ncnn

    return ncnn.convert_packing(tensor, 1).numpy()


def test_another_program_has_its_own_weights_and_the_same_inputs():
    model = workload_to_ncnn(CONV)
    first = NcnnProgram(model, packed=True)
    second = first.another()
    assert second._memory is first._memory
    assert first.bytes == second.bytes == len(model.weights)
    expected = first.compute()[0]
    del first
    assert np.array_equal(second.compute()[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"param": "7767517\n1 1\nNothing n 0 1 x0\n"}, "cannot read the layers"),
        ({"weights": b"\0" * 8}, "cannot read the weights"),
        ({"outputs": ("other",)}, "fails to compute the output 'other'"),
    ],
)
def test_models_that_ncnn_refuses(change, message):
    with pytest.raises(ModelError, match=message):
        NcnnProgram(replace(workload_to_ncnn(CONV), **change))


def test_an_unknown_input():
    with pytest.raises(ModelError, match="knows no input 'other'"):
        NcnnProgram(workload_to_ncnn(CONV)).compute({"other": np.zeros((32, 6, 6), np.float32)})


def test_python_ends_well_with_programs_that_are_still_there():
    script = """
from netadapt.measure.ncnn import NcnnProgram
from netadapt.measure.ncnn_model import workload_to_ncnn
from netadapt.network.workload import Workload
conv = Workload("conv", (32,), 48, (6, 6), bias=True)
kept = [NcnnProgram(workload_to_ncnn(conv), packed=True)]
kept.append(kept[0].another())
kept.append(NcnnProgram(workload_to_ncnn(Workload("activation", (8,), 8, activation="relu")), in_place=True))
for program in kept:
    program()
cycle = {"program": kept[0]}
cycle["self"] = cycle
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
