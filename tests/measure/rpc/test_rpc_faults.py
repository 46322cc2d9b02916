"""Everything that can go wrong with a board, each with a real server: the error's type, the limit, and that the next
measurement works and no process is left."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from itertools import count

import pytest
from board_servers import (
    alive,
    descendants,
    device_server,
    faking_server,
    free_port,
    platform,
    stock_server,
    wait_until,
)

from netadapt.errors import (
    ClockZero,
    DeviceBusy,
    DeviceError,
    DeviceLost,
    KernelCrashed,
    KernelInvalid,
    MeasurementError,
    SessionTimeout,
    Throttled,
)
from netadapt.measure.device import open_device
from netadapt.measure.rpc import blocks
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.network.workload import Workload

pytestmark = pytest.mark.timeout(120)

SESSION_LIMIT_S = 3.0
#: What the kernels of a sigmoid call is linked in from here, instead of the C library's.
EXPF = {
    "crashes": "return *(volatile float *)0;",
    "exits": "_exit(7); return x;",
    "hangs": "for (;;) pause(); return x;",
    "is wrong": "return x;",
}
#: What a session of the server does when the file FAULT names it.
EXTENSION = """
import os

def extension(folder):
    register, describe = server._register, server.describe
    fault = Path(os.environ["FAULT"]).read_text()
    zeros = json.dumps({"blocks": [[0, 0, 0]] * 10, "state": server.state()})
    hot = json.dumps({"blocks": [[1000000, 1000000, 0]] * 10, "state": {"celsius": 91.0, "mhz": None, "max_mhz": None}})
    slow = json.dumps({"blocks": [[1000000, 1000000, 0]] * 10, "state": {"celsius": 40, "mhz": 600, "max_mhz": 1800}})
    if fault in ("zero", "hot", "slow"):
        answer = {"zero": zeros, "hot": hot, "slow": slow}[fault]
        register("netadapt.blocks", lambda module, function, device, runs, count: answer)
    if fault == "old TVM":
        register("netadapt.describe", lambda: json.dumps({**describe(None), "tvm": "0.21.0"}))
    if fault == "old server":
        register("netadapt.describe", lambda: json.dumps({**describe(None), "protocol": 0}))
"""
_channels = count(1)


def sigmoid():
    """An operation that no test has measured before."""
    channels = next(_channels)
    return Workload("activation", (channels,), channels, activation="sigmoid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    linker = folder / "linker"
    linker.write_text(f'#!/bin/sh\nexec cc "$@" $(cat {folder}/linked)\n')
    linker.chmod(linker.stat().st_mode | stat.S_IXUSR)
    for fault, body in EXPF.items():
        code = '#include <unistd.h>\n__attribute__((visibility("hidden"))) float expf(float x) { ' + body + " }\n"
        (folder / f"{fault.replace(' ', '_')}.c").write_text(code)
    (folder / "linked").touch()
    (folder / "fault").touch()
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with faking_server(EXTENSION, folder) as server:
        yield server


@pytest.fixture(scope="module")
def device(server, folder):
    definition = platform(server.address, linker=folder / "linker", session_limit_s=SESSION_LIMIT_S)
    with RpcDevice(definition) as device:
        assert device.measure_workload(sigmoid()).value > 0
        yield device


@pytest.fixture
def link(folder):
    """Let models be linked with a faulty function."""
    yield lambda fault: (folder / "linked").write_text(str(folder / f"{fault.replace(' ', '_')}.c"))
    (folder / "linked").write_text("")


@pytest.fixture
def fault(folder):
    """Let sessions of the server have a fault."""
    yield lambda name: (folder / "fault").write_text(name)
    (folder / "fault").write_text("")


def works(device):
    return device.measure_workload(sigmoid()).value > 0


def nothing_is_left_on(server):
    wait_until(lambda: not descendants(server.pid))
    return True


# ---- Models


@pytest.mark.parametrize(("kind", "how"), [("crashes", "SIGSEGV"), ("exits", "exit code 7")])
def test_a_model_that_ends_its_process(device, server, link, folder, kind, how):
    link(kind)
    with pytest.raises(KernelCrashed, match=how):
        device.measure_workload(sigmoid())
    link_again(folder)
    assert works(device)
    assert nothing_is_left_on(server)


def link_again(folder):
    (folder / "linked").write_text("")


def test_a_model_that_never_returns(device, server, link, folder):
    link("hangs")
    start = time.monotonic()
    with pytest.raises(SessionTimeout, match="3 s"):
        device.measure_workload(sigmoid())
    assert time.monotonic() - start < 2 * SESSION_LIMIT_S + 5
    link_again(folder)
    assert works(device)
    assert nothing_is_left_on(server)


def test_a_wrong_result_is_not_timed(device, server, link, folder):
    link("is wrong")
    with pytest.raises(KernelInvalid, match="differs from ONNX Runtime's by"):
        device.measure_workload(sigmoid())
    link_again(folder)
    assert works(device)
    assert nothing_is_left_on(server)
