"""Measuring on boards, with real servers on this machine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from board_servers import descendants, device_server, platform, stock_server, wait_until
from onnx import TensorProto, helper, numpy_helper

from netadapt.errors import DeviceError, ModelError, UnknownNameError
from netadapt.measure import machine
from netadapt.measure.compare import Pairing, compare
from netadapt.measure.device import check_platform, fingerprint, open_device
from netadapt.measure.platform import TvmRuntime, TvmTarget
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.measure.rpc.tracker import Tracker
from netadapt.network.workload import EMPTY_RUN, Workload

pytestmark = pytest.mark.timeout(120)

CONV = Workload("conv", (8,), 16, (6, 5), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")
POOL = Workload("global_avg_pool", (8,), 8, (4, 4))


def conv_model(width=4, repeated=1):
    """Convolutions with weights of their own, one after the other, on images of two channels."""
    random = np.random.default_rng(0)
    nodes, weights, channels = [], [], 2
    for index in range(repeated):
        weight = (random.standard_normal((width, channels, 3, 3)) / channels**0.5 / 3).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        names = [f"t{index}", f"w{index}"]
        nodes.append(helper.make_node("Conv", names, [f"t{index + 1}"], pads=[1, 1, 1, 1]))
        channels = width
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, count, 12, 12))
        for name, count in (("t0", 2), (f"t{repeated}", width))
    ]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def server():
    with device_server() as server:
        yield server


@pytest.fixture(scope="module")
def device(server):
    with open_device(platform(server.address)) as device:
        yield device


def test_a_model_is_checked_and_timed(device):
    cost = device.measure(conv_model(16))
    larger = device.measure(conv_model(16, repeated=8))
    assert 4 * cost.value < larger.value < 32 * cost.value
    assert (cost.tier, cost.unit) == ("device", "ns")
    assert cost.samples > 0


def test_a_measurement_says_what_it_ran_on(device):
    told = device.measure_workload(CONV).provenance
    assert (told.runtime, told.runtime_version, told.form) == ("apache-tvm", "0.27.0.post1", "operation")
    assert told.machine in machine.cpu_model()
    assert told.os == machine.operating_system()
    assert told.platform == told.requested == "test-board"


def test_details_tell_how_far_the_result_is_off(device):
    facts = device.details(conv_model(16, repeated=4))
    assert 0 < facts["max_abs_difference"] < 1e-4
    assert facts["board"]["server"] == "netadapt-device"
    assert facts["general_kernels"] == []
    assert facts["library_bytes"] > 1000


def test_faults_of_a_model_are_told_as_such(device):
    with pytest.raises(ModelError, match="not a model"):
        device.costs(b"no model")
    with pytest.raises(ModelError, match="there is no such file"):
        device.costs(Path("no such file.onnx"))
    with pytest.raises(UnknownNameError):
        device.measure(conv_model(), "energy")


def test_two_models_are_compared_in_turn_on_one_board(device, server):
    before = descendants(server.pid)
    result = compare(device, conv_model(8), conv_model(8, repeated=16), Pairing(rounds=1, most_rounds=1, pairs=8))
    assert result.verdict == "SLOWER"
    assert result.ratio > 4
    wait_until(lambda: descendants(server.pid) == before)


def test_an_empty_run_takes_less_than_a_model(device):
    assert 0 < device.measure_workload(EMPTY_RUN).value < device.measure(conv_model(16, repeated=8)).value


def test_the_fingerprint_is_that_of_the_board_not_of_its_address(device):
    definition = device.platform
    moved = definition.model_copy(update={"rpc": definition.rpc.model_copy(update={"server": "192.0.2.1:9"})})
    other = definition.model_copy(update={"rpc": definition.rpc.model_copy(update={"board": "another"})})
    assert fingerprint(moved) == device.fingerprint
    assert fingerprint(other) != device.fingerprint


def test_a_check_tells_what_the_board_says(server):
    checks = {check.what: check for check in check_platform(platform(server.address))}
    assert all(check.ok for check in checks.values()), checks
    assert "tvm 0.27.0.post1" in checks["measuring"].detail


def test_a_check_tells_that_nobody_answers():
    checks = {check.what: check for check in check_platform(platform("127.0.0.1:9"))}
    assert not checks["measuring"].ok
    assert "no board answers at 127.0.0.1:9" in checks["measuring"].detail


def test_a_board_without_opencl_is_told(server):
    definition = platform(server.address)
    runtime = TvmRuntime(name="tvm", target=TvmTarget(kind="opencl", gpu="generic"))
    with (
        RpcDevice(definition.model_copy(update={"runtime": runtime})) as device,
        pytest.raises(DeviceError, match="no OpenCL device"),
    ):
        device.measure_workload(CONV)


# ---- ONNX Runtime on the board


def test_onnx_runtime_is_measured_on_the_board(server):
    with open_device(platform(server.address, runtime="ort")) as device:
        cost = device.measure(conv_model(16, repeated=8))
        assert device.measure_workload(CONV).value > 0
        assert (cost.provenance.runtime, cost.provenance.form) == ("onnxruntime", "model")
        assert device.details(conv_model())["max_abs_difference"] == 0
        result = compare(device, conv_model(8), conv_model(8, repeated=16), Pairing(rounds=1, most_rounds=1, pairs=8))
        assert result.verdict == "SLOWER"


# ---- TVM's own server


def test_a_server_of_tvms_own_is_timed_by_its_own_clock():
    with stock_server() as server, open_device(platform(server.address)) as device:
        cost = device.measure(conv_model(16))
        larger = device.measure(conv_model(16, repeated=8))
        assert 4 * cost.value < larger.value
        assert (cost.clean_fraction, cost.provenance.machine) == (1.0, "this machine")
        assert device.details(conv_model())["board"] == {}
    with (
        stock_server() as server,
        RpcDevice(platform(server.address, runtime="ort")) as device,
        pytest.raises(DeviceError, match="does not serve ONNX Runtime: run netadapt-device there"),
    ):
        device.measure(conv_model())


# ---- Several boards


def test_boards_with_one_key_measure_at_once():
    with (
        PrivateTracker() as tracker,
        device_server("--tracker", tracker.address, "--key", "pi") as first,
        device_server("--tracker", tracker.address, "--key", "pi") as second,
    ):
        wait_until(lambda: len(Tracker(tracker.address, 2).servers()) == 2)
        used, done = set(), threading.Event()

        def watch():
            while not done.wait(0.002):
                used.add(tuple(bool(descendants(server.pid)) for server in (first, second)))

        watching = threading.Thread(target=watch)
        with open_device(platform(tracker=tracker.address, key="pi")) as device, ThreadPoolExecutor(2) as pool:
            assert device.capacity == 2
            wanted = [Workload("conv", (count,), 8, (14, 14), (1, 1), bias=True) for count in range(8, 16)]
            watching.start()
            try:
                costs = list(pool.map(device.measure_workload, wanted))
            finally:
                done.set()
                watching.join()
            assert all(cost.value > 0 for cost in costs)
        assert (True, True) in used
