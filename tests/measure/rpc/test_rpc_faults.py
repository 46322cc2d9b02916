"""Everything that can go wrong with a board, each with a real server: the error's type, the limit, and that the next
measurement works and no process is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
from tvm import rpc

from netadapt.errors import (
    ClockZero,
    DeviceBusy,
    DeviceError,
    DeviceLost,
    KernelCrashed,
    KernelInvalid,
    SessionTimeout,
    Throttled,
)
from netadapt.lut.fill import fill
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.measure.rpc.session import _description
from netadapt.measure.rpc.tracker import Tracker
from netadapt.network.workload import Workload

pytestmark = pytest.mark.timeout(120)

SESSION_LIMIT_S = 3.0
#: How many compiled models a worker keeps.
KEPT = 4
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
    cool = server.state()
    answers = {
        "zero": ([0, 0, 0], cool),
        "hot": ([1000000, 1000000, 0], {"celsius": 91.0, "mhz": None, "max_mhz": None}),
        "slow": ([1000000, 1000000, 0], {"celsius": 40, "mhz": 600, "max_mhz": 1800}),
        "text for a time": (["soon", 0, 0], cool),
        "a clock without end": ([float("inf"), 0, 0], cool),
    }
    if fault in answers:
        block, state = answers[fault]
        answer = lambda count: json.dumps({"blocks": [block] * count, "state": state})
        register("netadapt.blocks", lambda module, function, device, runs, count: answer(int(count)))
    if fault == "too few blocks":
        register("netadapt.blocks", lambda *_: json.dumps({"blocks": [], "state": cool}))
    if fault in ("null", "[" * 100000, "{}", '{"protocol": "1", "tvm": []}'):
        register("netadapt.describe", lambda: fault)
    if fault == "x" * 100:
        register("netadapt.describe", lambda: fault * 100000)
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


def link_again(folder):
    (folder / "linked").write_text("")


# ---- Models


@pytest.mark.parametrize(("kind", "how"), [("crashes", "SIGSEGV"), ("exits", "exit code 7")])
def test_a_model_that_ends_its_process(device, server, link, folder, kind, how):
    link(kind)
    with pytest.raises(KernelCrashed, match=how):
        device.measure_workload(sigmoid())
    link_again(folder)
    assert works(device)
    assert nothing_is_left_on(server)


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


def test_a_table_keeps_what_it_has_when_a_model_crashes(device, server, link, folder, tmp_path):
    wanted = [sigmoid() for _ in range(6)]

    def crash_after_three(done, total, workload, measurement):
        if done == 3:
            link("crashes")

    with Table.open(tmp_path / "table") as table:
        with pytest.raises(KernelCrashed):
            fill(table, device, wanted, on_progress=crash_after_three)
        assert len(table.get_many(device.fingerprint, wanted, "latency")) == 3
        link_again(folder)
        # What was linked is kept for a second attempt at the same model.
        assert all(works(device) for _ in range(KEPT))
        fill(table, device, wanted)
        assert len(table.get_many(device.fingerprint, wanted, "latency")) == 6
    assert nothing_is_left_on(server)


# ---- What the board tells


def test_a_clock_that_stands_still(device, server, fault, folder):
    fault("zero")
    with pytest.raises(ClockZero, match="took no time"):
        device.measure_workload(sigmoid())
    (folder / "fault").write_text("")
    assert works(device)
    assert nothing_is_left_on(server)


@pytest.mark.parametrize(("kind", "why"), [("hot", "91 °C"), ("slow", "600 MHz of 1800")])
def test_a_throttled_board(device, server, fault, folder, kind, why):
    fault(kind)
    with pytest.raises(Throttled, match=why):
        device.measure_workload(sigmoid())
    (folder / "fault").write_text("")
    assert works(device)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("old TVM", r"has TVM 0\.21\.0, this machine has TVM .*pip install apache-tvm==0\."), ("old server", "version 0")],
)
def test_another_version_on_the_board(device, server, fault, folder, kind, message):
    fault(kind)
    with pytest.raises(DeviceError, match=message):
        device.measure_workload(sigmoid())
    (folder / "fault").write_text("")
    assert works(device)
    assert nothing_is_left_on(server)


@pytest.mark.parametrize("kind", ["text for a time", "a clock without end", "too few blocks"])
def test_times_that_are_none(device, server, fault, kind):
    fault(kind)
    with pytest.raises(DeviceError, match=r"the board at 127\.0\.0\.1:\d+: it does not answer with times of blocks"):
        device.measure_workload(sigmoid())
    assert nothing_is_left_on(server)


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("null", "as a whole"),
        ("{}", "protocol: Field required"),
        ('{"protocol": "1", "tvm": []}', "protocol: Input should be a valid integer"),
        ("[" * 100000, "is not JSON"),
        ("x" * 100, "10,000,000 characters"),
    ],
    ids=["null", "empty", "types", "deep", "long"],
)
def test_a_board_that_describes_itself_as_none_can(device, server, fault, description, told):
    fault(description)
    with pytest.raises(DeviceError, match=rf"the board at 127\.0\.0\.1:\d+ cannot say what it is: .*{told}"):
        device.measure_workload(sigmoid())
    assert nothing_is_left_on(server)


def test_a_server_that_refuses_this_version_of_the_protocol(server):
    """Between client and server, the version that the client tells is replaced."""
    with (
        OlderClient(server.port) as between,
        RpcDevice(platform(f"127.0.0.1:{between.port}")) as device,
        pytest.raises(DeviceError, match=r"another version of TVM.*pip install apache-tvm=="),
    ):
        device.measure_workload(sigmoid())
    assert nothing_is_left_on(server)


class OlderClient:
    """Passes on what goes to a server and comes back, as from a client with an older version of TVM's protocol."""

    def __init__(self, server):
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source, target):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part.replace(b"0.8.0", b"0.7.0"))
            target.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


# ---- Servers


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def losing(port, folder):
    """A device whose server is started by each test."""
    definition = platform(f"127.0.0.1:{port}", linker=folder / "linker", session_limit_s=SESSION_LIMIT_S)
    with RpcDevice(definition) as device:
        yield device


def test_a_server_that_is_killed_while_a_model_runs(losing, port, link, folder):
    link("hangs")
    with device_server(port=port) as server, ThreadPoolExecutor(1) as pool:
        measuring = pool.submit(losing.measure_workload, sigmoid())
        wait_until(lambda: descendants(server.pid), 30)
        session = descendants(server.pid)
        # Its session, in a process group of its own, must not outlive it.
        server.kill()
        with pytest.raises(DeviceLost):
            measuring.result()
        wait_until(lambda: not any(map(alive, session)))
    link_again(folder)
    with device_server(port=port) as server:
        assert works(losing)
        assert nothing_is_left_on(server)


def test_a_server_that_is_killed_before_it_has_said_what_it_is(port):
    with device_server(port=port) as server:
        remote = rpc.connect("127.0.0.1", port, session_timeout=60)
        server.kill()
        with pytest.raises(DeviceLost, match=f"the board at 127.0.0.1:{port} was lost before it said what it is"):
            _description(remote, f"127.0.0.1:{port}")


def test_a_server_that_cannot_say_what_it_is(port):
    class Confused:
        """A session whose board says something else than it should; all else is that of a real one."""

        def __init__(self, remote):
            self.get_function = lambda name: str if name == "netadapt.describe" else remote.get_function(name)

    with device_server(port=port):
        remote = rpc.connect("127.0.0.1", port, session_timeout=60)
        with pytest.raises(
            DeviceError, match=f"the board at 127.0.0.1:{port} cannot say what it is: it answers with what is not JSON"
        ):
            _description(Confused(remote), f"127.0.0.1:{port}")


def test_a_server_that_is_stopped(losing, port):
    with device_server(port=port) as server:
        os.kill(server.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(DeviceLost, match="does not answer within 2 s"):
            losing.measure_workload(sigmoid())
        assert time.monotonic() - start < 20
        os.kill(server.pid, signal.SIGCONT)
        assert works(losing)
        assert nothing_is_left_on(server)


def test_a_server_that_is_not_there(losing):
    with pytest.raises(DeviceLost, match="cannot connect to a board"):
        losing.measure_workload(sigmoid())
    with pytest.raises(DeviceLost, match="no board answers at"):
        open_device(losing.platform)


def test_something_else_than_a_server(losing, port):
    with socket.create_server(("127.0.0.1", port)) as listener, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer_as_web_server, listener, 2)
        with pytest.raises(DeviceLost, match="is not a server of TVM's RPC"):
            losing.measure_workload(sigmoid())
        answering.result(5)


def answer_as_web_server(listener, times):
    for _ in range(times):
        with listener.accept()[0] as connection:
            said = b""
            while b"timeout" not in said:
                said += connection.recv(4096)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


def test_a_client_that_is_killed_in_the_middle_of_an_upload(losing, port):
    with device_server(port=port) as server:
        client = subprocess.Popen([sys.executable, "-c", HALF_AN_UPLOAD, str(port)], stdout=subprocess.PIPE)
        assert client.stdout.readline()
        wait_until(lambda: descendants(server.pid))
        with pytest.raises(DeviceBusy, match="served other clients for 2 s"):
            losing.measure_workload(sigmoid())
        client.kill()
        client.wait()
        client.stdout.close()
        assert works(losing)
        assert nothing_is_left_on(server)


#: Gets a session, sends half of a packet and waits.
HALF_AN_UPLOAD = """
import socket, struct, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
key = b"client: -timeout=60"
connection.sendall(struct.pack("<ii", 0xFF271, len(key)) + key)
connection.recv(4)
connection.sendall(struct.pack("<Q", 1 << 20) + bytes(1 << 19))
print("sent", flush=True)
time.sleep(60)
"""


def test_a_client_that_stops_in_the_middle_of_an_upload_loses_its_session_at_its_limit(losing, port):
    half = HALF_AN_UPLOAD.replace("-timeout=60", "-timeout=1")
    with device_server(port=port) as server:
        client = subprocess.Popen([sys.executable, "-c", half, str(port)], stdout=subprocess.PIPE)
        assert client.stdout.readline()
        client.send_signal(signal.SIGSTOP)
        assert works(losing)
        client.kill()
        client.wait()
        client.stdout.close()
        assert nothing_is_left_on(server)


def test_two_clients_at_once(losing, port):
    with device_server(port=port) as server, ThreadPoolExecutor(2) as pool:
        costs = list(pool.map(losing.measure_workload, [sigmoid(), sigmoid()]))
        assert all(cost.value > 0 for cost in costs)
        assert nothing_is_left_on(server)


# ---- TVM's own server


def test_a_server_of_tvms_of_which_only_a_session_is_left(losing, port, link, folder):
    """The session holds the port open, so that further clients wait for ever."""
    link("hangs")
    with stock_server() as server:
        reached = platform(server.address, linker=folder / "linker", session_limit_s=SESSION_LIMIT_S)
        with RpcDevice(reached) as device, ThreadPoolExecutor(1) as pool:
            measuring = pool.submit(device.measure_workload, sigmoid())
            wait_until(lambda: descendants(server.pid), 30)
            left = descendants(server.pid)
            server.kill()
            with pytest.raises(SessionTimeout, match="and does not answer"):
                measuring.result()
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_a_server_of_tvms_that_serves_another_client():
    with stock_server() as server, socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(struct.pack("<ii", 0xFF271, 7) + b"client:")
        assert other.recv(4)
        with RpcDevice(platform(server.address)) as device:
            with pytest.raises(DeviceLost, match="or a server of TVM's that serves another client"):
                device.measure_workload(sigmoid())
            # Its session must end as TVM wants it, or the server stops listening.
            other.sendall(struct.pack("<Qi", 4, 1))
            assert works(device)


def test_a_model_that_crashes_on_a_server_of_tvms(link, folder):
    link("crashes")
    with (
        stock_server() as server,
        RpcDevice(platform(server.address, linker=folder / "linker")) as device,
        pytest.raises(DeviceLost, match="was lost with the model on it"),
    ):
        device.measure_workload(sigmoid())


# ---- Trackers


def test_a_tracker_that_is_not_there():
    reached = platform(tracker=f"127.0.0.1:{free_port()}", key="pi")
    with pytest.raises(DeviceLost, match="tracker"):
        open_device(reached)


def test_trackers():
    """One device meets a tracker without the key, one whose board is in use, and one that goes away."""
    with PrivateTracker() as tracker:
        reached = platform(tracker=tracker.address, key="pi", connect_limit_s=1, busy_limit_s=1)
        with RpcDevice(reached) as device:
            with device_server("--tracker", tracker.address, "--key", "rock") as other:
                with pytest.raises(DeviceLost, match="knows no board with key 'pi'; it knows 'rock'"):
                    device.measure_workload(sigmoid())
                assert nothing_is_left_on(other)
            with device_server("--tracker", tracker.address, "--key", "pi") as server:
                assert works(device)
                taken = Tracker(tracker.address, 2).acquire("pi", 5)
                with pytest.raises(DeviceBusy, match="every board with key 'pi'"):
                    device.measure_workload(sigmoid())
                with socket.create_connection((taken.host, taken.port)) as connection:
                    key = f"client:{taken.match_key}".encode()
                    connection.sendall(struct.pack("<ii", 0xFF271, len(key)) + key)
                    assert connection.recv(4)
                assert works(device)
                assert nothing_is_left_on(server)
                os.kill(tracker.pid, signal.SIGSTOP)
                with pytest.raises(DeviceLost, match="did not answer within 1 s"):
                    device.measure_workload(sigmoid())
                os.kill(tracker.pid, signal.SIGCONT)
                assert works(device)
                tracker.close()
                with pytest.raises(DeviceLost, match=r"tracker .* is lost"):
                    device.measure_workload(sigmoid())


# ---- This side


def test_nothing_is_left_of_a_device_that_is_closed(server):
    before = set(descendants(os.getpid()))
    with RpcDevice(platform(server.address)) as device:
        assert works(device)
        workers = set(descendants(os.getpid())) - before
        assert workers
    assert not any(map(alive, workers))


def test_nothing_is_left_after_an_interruption_and_the_device_can_be_used_again(device, server, link, folder):
    link("hangs")
    interrupting = threading.Timer(1.5, signal.raise_signal, [signal.SIGINT])
    before = set(descendants(os.getpid()))
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        device.measure_workload(sigmoid())
    wait_until(lambda: len(set(descendants(os.getpid())) & before) < len(before))
    link_again(folder)
    assert works(device)
    assert nothing_is_left_on(server)
