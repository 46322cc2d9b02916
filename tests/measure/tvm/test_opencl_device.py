"""TVM's kernels on the OpenCL of this machine. Nothing here depends on how fast it is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from tvm_models import model, pointwise_chain, squeeze_excite, zoo_network
from typer.testing import CliRunner

pytest.importorskip("tvm", reason="Apache TVM is not installed")
pytest.importorskip("pyopencl", reason="pyopencl is not installed")

import pyopencl as cl

from netadapt.cli import app
from netadapt.errors import ClockZero, KernelInvalid, MeasurementError, ModelError
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.measurement import STATUSES
from netadapt.measure.platform import TvmTarget, load_platform
from netadapt.measure.protocol import Timing
from netadapt.measure.tvm import opencl_device, opencl_program, opencl_run
from netadapt.measure.tvm.opencl_run import KernelSource, OpenclRun, first_device
from netadapt.measure.tvm.reference import example
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx


def _has_opencl():
    try:
        first_device()
    except MeasurementError:
        return False
    return True


pytestmark = [
    pytest.mark.timeout(120),
    # On Linux x86-64, PoCL comes with the extra `opencl`.
    pytest.mark.skipif(not _has_opencl(), reason="no OpenCL of this machine can build kernels"),
]

WORKLOADS = [
    EMPTY_RUN,
    Workload("conv", (16,), 24, (14, 14), bias=True, activation="relu"),
    Workload("conv", (3,), 16, (33, 35), (3, 3), (2, 2), (1, 1), bias=True, activation="hardswish"),
    Workload("conv", (16,), 16, (13, 13), (5, 5), padding=(2, 2), bias=True, activation="relu6"),
    Workload("conv", (16,), 8, (9, 9), (3, 3), padding=(2, 2), dilation=(2, 2)),
    # Depthwise, of both strides.
    Workload("conv", (24,), 24, (14, 14), (3, 3), padding=(1, 1), groups=24, bias=True, activation="silu"),
    Workload("conv", (24,), 24, (14, 14), (3, 3), (2, 2), (1, 1), groups=24, bias=True),
    Workload("conv", (12,), 18, (9, 9), (3, 3), padding=(1, 1), groups=6, bias=True),
    # Few results of long sums, which the work-items of a group share: their number is no multiple of the group's.
    Workload("conv", (67,), 37, (2, 2), (3, 3), padding=(1, 1), activation="hardsigmoid"),
    Workload("conv", (13,), 1, (7, 7), (5, 5)),
    # Nothing divides these evenly.
    Workload("conv", (7,), 131, (11, 11), bias=True, batch=2),
    Workload("linear", (100,), 10, bias=True, activation="hardswish"),
    Workload("linear", (9,), 3, batch=4),
    Workload("max_pool", (16,), 16, (15, 15), (3, 3), (2, 2), ceil_mode=True),
    Workload("max_pool", (7,), 7, (14, 14), (3, 3), (2, 2), (1, 1)),
    Workload("avg_pool", (8,), 8, (7, 7), (3, 3), (2, 2), (1, 1), count_include_pad=False),
    Workload("global_avg_pool", (30,), 30, (9, 9)),
    Workload("add", (8, 8), 8, (5, 5), activation="relu"),
    Workload("scale", (24, 24), 24, (6, 6)),
    Workload("concat", (8, 12, 3), 23, (6, 6)),
    Workload("batch_norm", (9,), 9, (5, 5), activation="tanh"),
]


@pytest.fixture(scope="module")
def device():
    with open_device("opencl-local") as device:
        yield device


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_every_kind_of_operation_is_computed_as_by_onnx_runtime(device, workload):
    # Whoever loads it compares its result.
    program, form = device.workload_program(workload)
    assert form == "interior"
    assert program() > 0


@pytest.mark.parametrize("network", ["mobilenet_v1:0.5@32", "squeezenet@64"])
def test_zoo_networks_are_computed_as_by_onnx_runtime(device, network):
    content = zoo_network(network)
    program = device.model_program(content)
    assert program() > 0
    (right,) = example(content).outputs.values()
    (found,) = program.outputs()
    # Fresh weights give small numbers, so compare them more strictly than the device does.
    assert np.abs(found - right).max() <= 1e-4 * np.abs(right).max()


def test_a_squeeze_excite_block_is_computed_as_by_onnx_runtime(device):
    assert device.model_program(squeeze_excite())() > 0


def test_a_kernel_that_none_of_our_schedules_fits(device):
    softmax = model([("Softmax", ["x"], ["y"], {"axis": 1})], [("x", (3, 40))], [("y", (3, 40))])
    assert device.model_program(softmax)() > 0


def test_a_measurement_says_what_and_where_from(device):
    workload = Workload("conv", (16,), 24, (14, 14), bias=True, activation="relu")
    measurement = device.measure_workload(workload)
    assert (measurement.metric, measurement.unit, measurement.tier) == ("latency", "ns", "local")
    assert measurement.status in STATUSES
    assert 0 < measurement.minimum <= measurement.value <= measurement.median
    source = measurement.provenance
    assert (source.platform, source.runtime, source.form) == ("opencl-local", "apache-tvm", "interior")
    assert first_device().name.strip() in source.machine
    assert source.fingerprint == device.fingerprint == fingerprint(load_platform("opencl-local"))


def test_the_command_line_names_the_opencl_device(tmp_path):
    path = tmp_path / "chain.onnx"
    path.write_bytes(pointwise_chain(2))
    result = CliRunner().invoke(app, ["measure", str(path), "-p", "opencl-local", "--profile", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    latency = facts["metrics"]["latency"]
    assert latency["tier"] == "local"
    assert first_device().name.strip() in latency["provenance"]["machine"]
    # The image is turned, then convolved twice, then turned back.
    assert [layer["op"] for layer in facts["layers"]] == ["transpose", "conv2d", "conv2d", "transpose"]
    assert {layer["cycles"] for layer in facts["layers"]} == {None}


def test_all_checks_pass():
    checks = {check.what: check for check in check_platform(load_platform("opencl-local"))}
    assert checks["OpenCL device"].detail == first_device().name.strip()
    assert [check.what for check in checks.values() if not check.ok and check.what != "measuring"] == []


def altered(monkeypatch, alter):
    """Have the device get programs that are not quite what TVM made of the model."""
    compiled = opencl_program.opencl_program

    def alter_compiled(*arguments):
        return alter(compiled(*arguments))

    monkeypatch.setattr(opencl_program, "opencl_program", alter_compiled)


def test_a_wrong_kernel_is_told_and_never_timed(device, monkeypatch):
    altered(monkeypatch, lambda program: replace(program, source=program.source.replace("max(", "min(")))
    monkeypatch.setattr(opencl_run, "KernelSource", lambda *_: pytest.fail("a wrong kernel is timed"))
    relu = Workload("activation", (8,), 8, (4, 4), activation="relu")
    with pytest.raises(KernelInvalid, match="differs from ONNX Runtime's"):
        device.measure_workload(relu)
    with pytest.raises(KernelInvalid, match=r"activation 8->8 4x4 relu"), device.exclusive():
        device.workload_program(relu)
    monkeypatch.undo()
    assert device.measure_workload(relu).value > 0


def test_a_kernel_that_starts_too_few_work_items_is_told(device, monkeypatch):
    def halved(program):
        (launch,) = program.launches
        groups = (launch.groups[0] // 2, *launch.groups[1:])
        return replace(program, launches=(replace(launch, groups=groups),))

    altered(monkeypatch, halved)
    with pytest.raises(KernelInvalid):
        device.measure_workload(Workload("batch_norm", (64,), 64, (8, 8)))


def test_a_kernel_that_cannot_be_built_is_told_with_the_log_of_the_build(device, monkeypatch):
    altered(monkeypatch, lambda program: replace(program, source=program.source.replace("max(", "maxx(")))
    with pytest.raises(MeasurementError, match="cannot build the kernels") as told:
        device.measure_workload(EMPTY_RUN)
    assert "maxx" in str(told.value)


def test_a_kernel_that_the_device_cannot_start_is_told(device, monkeypatch):
    def too_wide(program):
        (launch,) = program.launches
        return replace(program, launches=(replace(launch, items=(1 << 20, 1, 1)),))

    altered(monkeypatch, too_wide)
    with pytest.raises(MeasurementError, match="cannot be run on"):
        device.measure_workload(EMPTY_RUN)


@pytest.mark.parametrize("memories", [(1 << 50,), (1 << 31,) * 10_000])
def test_a_program_that_does_not_fit_is_told_before_memory_is_taken(device, monkeypatch, memories):
    altered(monkeypatch, lambda program: replace(program, memories=program.memories + memories))
    with pytest.raises(MeasurementError, match=r"bytes; .* has at most [\d,]+; take a smaller network"):
        device.measure_workload(EMPTY_RUN)


def test_a_model_that_cannot_be_compared_is_told(device, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        device.measure(tmp_path / "missing.onnx")
    dynamic = model([("Relu", ["x"], ["y"], {})], [("x", ("N", 4))], [("y", ("N", 4))])
    with pytest.raises(ModelError, match="dynamic shape"):
        device.measure(dynamic)


def test_copies_have_weights_of_their_own(device):
    program, _ = device.workload_program(Workload("linear", (64,), 32))
    assert program.bytes == 64 * 32 * 4
    other = program.another()
    for run in (program, other):
        run()
    np.testing.assert_array_equal(program.outputs()[0], other.outputs()[0])


def test_a_platform_without_pyopencl_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(MeasurementError, match=r"pip install '\.\[opencl\]'"):
        open_device("opencl-local")


@pytest.mark.parametrize("found", [[], cl.LogicError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")])
def test_a_machine_without_opencl_says_what_to_install(monkeypatch, found):
    def get_platforms():
        if isinstance(found, list):
            return found
        raise found

    monkeypatch.setattr(cl, "get_platforms", get_platforms)
    with pytest.raises(MeasurementError, match=r"no OpenCL on this machine.*pip install '\.\[opencl\]'"):
        open_device("opencl-local")


def test_a_gpu_goes_before_a_cpu(monkeypatch):
    cpu, gpu = (SimpleNamespace(type=kind) for kind in (cl.device_type.CPU, cl.device_type.GPU))
    platforms = [SimpleNamespace(get_devices=lambda: [cpu]), SimpleNamespace(get_devices=lambda: [gpu])]
    monkeypatch.setattr(cl, "get_platforms", lambda: platforms)
    monkeypatch.setattr(opencl_run, "_require_compiler", lambda device: None)
    assert first_device() is gpu
    monkeypatch.setattr(cl, "get_platforms", lambda: platforms[:1])
    assert first_device() is cpu


def test_kernels_that_took_no_time_are_told(device, monkeypatch):
    program, _ = device.workload_program(EMPTY_RUN)
    monkeypatch.setattr(OpenclRun, "kernel_times_ns", lambda self: [0])
    with pytest.raises(ClockZero, match="took 0 ns"):
        program()


def test_the_cost_of_a_block_is_the_mean_of_what_the_device_says():
    costs = iter([100, 100, *[300, 500] * 10_000])
    source = KernelSource(lambda: next(costs), Timing(block_ns=0, time_limit_ns=0), None)
    source.warm_up()
    assert source.block().cost in (300, 500)
    source._runs = 2
    assert source.block().cost == 400


def test_a_device_that_could_not_be_opened_once_is_found_later(monkeypatch):
    def fails():
        raise MeasurementError("no OpenCL device")

    with monkeypatch.context() as patch:
        patch.setattr(opencl_run, "first_device", fails)
        assert opencl_device.identity(load_platform("opencl-local")).get("device") is None
    assert opencl_device.identity(load_platform("opencl-local"))["device"]


class CoreSpeed:
    def __init__(self, usual):
        self.usual = usual

    def is_usual(self):
        return self.usual


@pytest.mark.parametrize(("usual", "preemptions", "clean"), [(True, 0, True), (False, 0, False), (True, 1, False)])
def test_a_block_counts_while_the_cores_are_as_fast_as_usual_and_ours(monkeypatch, usual, preemptions, clean):
    monkeypatch.setattr(opencl_run, "_preemptions", count(step=preemptions).__next__)
    block = KernelSource(lambda: 5, Timing(), CoreSpeed(usual)).block()
    assert (block.cost, block.clean) == (5, clean)


def test_what_happens_to_the_cores_does_not_matter_to_a_gpu(monkeypatch):
    monkeypatch.setattr(opencl_run, "_preemptions", count().__next__)
    assert KernelSource(lambda: 5, Timing(), None).block().clean


def test_adreno_kernels_run_on_any_opencl(device):
    # The kernels that phones get are those that are run here: only what starts them differs.
    image = Workload("conv", (8,), 16, (6, 6), (3, 3), padding=(1, 1))
    sources = {
        opencl_program.opencl_program(workload_to_onnx(image), TvmTarget(kind="opencl", gpu=gpu), True).source
        for gpu in ("generic", "adreno", "mali")
    }
    assert len(sources) == 1
