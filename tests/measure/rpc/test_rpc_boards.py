"""Devices whose boards are processes of QEMU that they start themselves: the path of real boards, without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from board_servers import alive, descendants, wait_until

from netadapt.errors import MeasurementError, UnknownNameError
from netadapt.measure.device import fingerprint, open_device
from netadapt.measure.platform import Emulated, OrtRuntime, load_platform
from netadapt.measure.rpc.device import RpcDevice
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = [pytest.mark.usefixtures("installation"), pytest.mark.timeout(180)]

CONV = Workload("conv", (8,), 16, (6, 5), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")
ONE = {"emulated": Emulated(cpu="cortex-a72", boards=1)}
EMULATED = load_platform("qemu-aarch64-tvm").model_copy(update=ONE)
SIMULATED = load_platform("sim-cortex-a72-tvm").model_copy(update={"emulated": Emulated(boards=1)})


def test_an_emulated_board_computes_what_it_should_and_tells_no_time(installation):
    model = workload_to_onnx(CONV)
    with open_device(EMULATED) as device:
        assert device.costs(model) == {}
        facts = device.details(model)
        assert 0 <= facts["max_abs_difference"] < 1e-5
        assert facts["board"]["tvm"] == "0.27.0.post1"
        with pytest.raises(UnknownNameError):
            device.measure(model)
        with pytest.raises(MeasurementError, match="has no clock"), device.load(model):
            pass


def test_onnx_runtime_runs_on_an_emulated_board(installation):
    with open_device(EMULATED.model_copy(update={"runtime": OrtRuntime(name="ort")})) as device:
        assert device.details(workload_to_onnx(CONV))["max_abs_difference"] < 1e-5


@pytest.fixture(scope="module")
def device(installation):
    with open_device(SIMULATED) as device:
        yield device


def test_a_simulated_board_counts_cycles_that_another_counts_too(device):
    cost = device.measure_workload(CONV)
    assert (cost.tier, cost.samples, cost.mad) == ("simulated", 1, 0)
    assert device.measure_workload(CONV, "energy").value > 0
    details = device.workload_details(CONV)
    assert details["cycles"] / 1.8 == pytest.approx(cost.value, abs=1)
    # Nothing is multiplied by the border.
    assert 0.5 * CONV.macs < details["fma_lanes"] <= 1.5 * CONV.macs
    device.measure_workload(EMPTY_RUN)
    with open_device(SIMULATED) as other:
        assert other.workload_details(EMPTY_RUN)["cycles"] == device.workload_details(EMPTY_RUN)["cycles"]
        assert other.workload_details(CONV)["cycles"] == details["cycles"]


def test_blocks_of_a_simulated_board_are_all_the_same(device):
    model = workload_to_onnx(CONV)
    with device.load(model) as source:
        source.warm_up()
        assert source.block() == source.block()
        assert round(source.block().cost) == device.measure(model).value


def test_the_fingerprint_names_the_core_and_the_server(device):
    assert fingerprint(SIMULATED) != fingerprint(SIMULATED.model_copy(update={"core": "cortex-a53-rpi3bplus"}))


def test_a_board_that_died_is_replaced(device):
    before = device.workload_details(CONV)["cycles"]
    boards = device.boards.pids
    os.kill(boards[0], signal.SIGKILL)
    wait_until(lambda: not alive(boards[0]))
    device.forget()
    assert device.workload_details(CONV)["cycles"] == before
    assert device.boards.pids[0] != boards[0]


def test_nothing_is_left_when_the_device_is_closed_or_its_process_killed(installation):
    code = (
        "import time\n"
        "from netadapt.measure.device import open_device\n"
        "from netadapt.network.workload import EMPTY_RUN\n"
        "device = open_device('sim-cortex-a53-tvm')\n"
        "device.measure_workload(EMPTY_RUN)\n"
        "print('measured', flush=True)\n"
        "time.sleep(60)\n"
    )
    measuring = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert measuring.stdout.readline() == b"measured\n"
    started = descendants(measuring.pid)
    # A worker, a tracker and a board, at least.
    assert len(started) >= 3
    measuring.kill()
    measuring.wait()
    measuring.stdout.close()
    wait_until(lambda: not any(map(alive, started)))

    before = set(descendants(os.getpid()))
    with open_device(SIMULATED) as device:
        device.measure_workload(EMPTY_RUN)
        started = set(descendants(os.getpid())) - before
    assert len(started) >= 3
    wait_until(lambda: not any(map(alive, started)))


def test_cycles_are_counted_of_compiled_code_only(installation):
    with pytest.raises(MeasurementError, match='take transport "qemu"'):
        RpcDevice(SIMULATED.model_copy(update={"runtime": OrtRuntime(name="ort")}))
