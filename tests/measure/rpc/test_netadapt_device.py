"""The device server as clients and trackers see it, each time a real process."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from board_servers import (
    FakeTracker,
    alive,
    descendants,
    device_server,
    faking_server,
    free_port,
    message,
    wait_until,
)
from tvm import rpc

from netadapt.errors import DeviceLost
from netadapt.measure.rpc.on_device import netadapt_device
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.measure.rpc.tracker import Tracker

pytestmark = pytest.mark.timeout(60)

MAGIC = 0xFF271
SUCCESS, BUSY, WRONG_KEY = MAGIC, MAGIC + 1, MAGIC + 2


class Client:
    """The beginning of a client: it says who it is."""

    def __init__(self, port, key="client:", magic=MAGIC):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.connection.sendall(struct.pack("<ii", magic, len(key)) + key.encode())

    def answer(self):
        """The server's code; None when it closed the connection."""
        try:
            part = self.connection.recv(4)
        except ConnectionResetError:
            return None
        return struct.unpack("<i", part)[0] if part else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


@pytest.fixture(scope="module")
def server():
    with device_server() as server:
        yield server


def is_free(server):
    wait_until(lambda: not descendants(server.pid))
    with Client(server.port) as client:
        free = client.answer() == SUCCESS
        wait_until(lambda: not free or descendants(server.pid))
    wait_until(lambda: not descendants(server.pid))
    return free


# ---- Clients


def test_a_second_client_is_refused_at_once(server):
    with Client(server.port) as first, Client(server.port) as second:
        assert {first.answer(), second.answer()} == {SUCCESS, BUSY}
        wait_until(lambda: descendants(server.pid))
    assert is_free(server)


def test_a_client_with_another_key_is_refused(server):
    with Client(server.port, "client:phone") as client:
        assert client.answer() == WRONG_KEY
    assert is_free(server)


@pytest.mark.parametrize("magic", [0, 0x2F271])
def test_what_is_no_client_is_sent_away(server, magic):
    with Client(server.port, magic=magic) as client:
        assert client.answer() is None
    assert is_free(server)


@pytest.mark.parametrize("length", [-1, 1 << 30])
def test_a_key_of_absurd_length_is_not_awaited(server, length):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(struct.pack("<ii", MAGIC, length))
        assert not connection.recv(4)
    assert is_free(server)


def test_a_client_that_says_nothing_keeps_nobody_waiting(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        with Client(server.port) as client:
            assert client.answer() == SUCCESS
            wait_until(lambda: descendants(server.pid))
        # Nor is it kept for ever.
        assert silent.recv(1) == b""
    assert is_free(server)


def test_a_greeting_may_come_byte_by_byte(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for byte in struct.pack("<ii", MAGIC, 7) + b"client:":
            connection.sendall(bytes([byte]))
        assert struct.unpack("<i", connection.recv(4))[0] == SUCCESS
        wait_until(lambda: descendants(server.pid))
    assert is_free(server)


@pytest.mark.parametrize("wish", ["-timeout=0.5", "-timeout=nan -timeout=0.5", "-timeout=soon -timeout=0.5"])
def test_a_session_is_ended_at_the_limit_that_its_client_asked_for(server, wish):
    with Client(server.port, f"client: {wish}") as client:
        assert client.answer() == SUCCESS
        wait_until(lambda: descendants(server.pid), 5)
        wait_until(lambda: not descendants(server.pid), 5)
    assert is_free(server)


def test_a_session_is_ended_at_the_servers_limit():
    with device_server("--session-limit", "0.5") as server, Client(server.port, "client: -timeout=60") as client:
        assert client.answer() == SUCCESS
        wait_until(lambda: descendants(server.pid), 5)
        wait_until(lambda: not descendants(server.pid), 5)
        assert is_free(server)


# ---- Its end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_takes_its_session_along(number):
    with device_server() as server, Client(server.port) as client:
        assert client.answer() == SUCCESS
        wait_until(lambda: descendants(server.pid))
        session = descendants(server.pid)
        folder = os.path.dirname(os.readlink(f"/proc/{session[0]}/cwd"))
        os.kill(server.pid, number)
        assert server.process.wait(5) == 0
        assert not any(map(alive, session))
        assert not os.path.exists(folder)


# ---- Trackers


@pytest.fixture(scope="module")
def tracker():
    with PrivateTracker() as tracker:
        yield Tracker(tracker.address, 2)


def test_a_board_is_registered_while_nobody_uses_it(tracker):
    with device_server("--tracker", tracker.address, "--key", "pi", "--advertise", "localhost") as server:
        board = tracker.acquire("pi", 5)
        assert (board.host, board.port) == ("localhost", server.port)
        with Client(server.port, f"client:{board.match_key}") as client:
            assert client.answer() == SUCCESS
            assert ("pi", ("localhost", server.port)) in tracker.servers()
        again = tracker.acquire("pi", 5)
        assert again.match_key != board.match_key
        with Client(server.port, f"client:{board.match_key}") as late:
            assert late.answer() == WRONG_KEY
    wait_until(lambda: not tracker.servers())


def test_a_board_that_was_given_to_a_client_that_never_came_is_offered_again(tracker):
    with device_server("--tracker", tracker.address, "--key", "pi"):
        first = tracker.acquire("pi", 5)
        assert tracker.acquire("pi", 20).match_key != first.match_key


def test_a_board_comes_back_to_a_tracker_that_was_restarted(tmp_path):
    port = free_port()
    code = tmp_path / "tracker.py"
    # On the port that it had before, as TVM's own command would.
    code.write_text(
        "import os, socket, sys\n"
        "sys.modules['torch'] = None\n"
        "os.environ['TVM_USE_RUNTIME_LIB'] = '1'\n"
        "from tvm.rpc.tracker import TrackerServerHandler\n"
        f"TrackerServerHandler(socket.create_server(('127.0.0.1', {port})), '').run()\n"
    )
    address = f"127.0.0.1:{port}"
    with device_server("--tracker", address, "--key", "pi") as server:
        for _ in range(2):
            running = subprocess.Popen([sys.executable, str(code)])
            try:
                wait_until(lambda: knows(Tracker(address, 1), "pi"), 20)
            finally:
                running.kill()
                running.wait()
        assert alive(server.pid)


def knows(tracker, key):
    try:
        return key in [known for known, _ in tracker.servers()]
    except DeviceLost:
        return False


# ---- The command


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, netadapt_device.__file__, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **variables},
    )


def test_help_says_what_it_is_and_whom_to_let_near():
    done = run("--help")
    assert done.returncode == 0
    assert "one client at a time" in " ".join(done.stdout.split())
    assert "only in a network that you trust" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cores", "4096-4097"], "there is no core 4096, 4097"),
        (["--cores", "big"], "'big' is not a list of cores"),
        (["--cores", "0-99999999999"], "'0-99999999999' is not a list of cores"),
        (["--key", "my pi"], "'my pi' cannot be a key"),
        (["--host", "a..b"], "cannot listen on a..b"),
        (["--port", "70000"], "a port is between 0 and 65535"),
        (["--session-limit", "0"], "a time limit is longer than 0 s"),
        (["--tracker", "somewhere"], "'somewhere' is not HOST:PORT"),
        (["--tracker", "127.0.0.1:9190"], "--tracker needs --key"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_a_port_in_use_is_told(server):
    done = run("--port", str(server.port))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use" in done.stderr


def test_without_tvm_it_says_how_to_install_it(tmp_path):
    (tmp_path / "tvm.py").write_text("raise ImportError('none here')\n")
    done = run(PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "netadapt-device: TVM's runtime is not there (none here); install it: pip install"
        " apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1"
    ]


def test_it_needs_nothing_of_netadapt():
    source = Path(netadapt_device.__file__).read_text()
    assert "import netadapt" not in source
    assert "from netadapt" not in source


def test_cores_are_those_of_the_session():
    core = min(os.sched_getaffinity(0))
    with device_server("--cores", str(core)) as server, Client(server.port) as client:
        assert client.answer() == SUCCESS
        wait_until(lambda: descendants(server.pid))
        assert os.sched_getaffinity(descendants(server.pid)[0]) == {core}


# ---- A full disk, and others that are too many


def test_a_log_that_cannot_be_written_ends_nothing():
    """As where it goes to a file on a full disk; /dev/full is one."""
    with open("/dev/full", "w") as full, device_server(stderr=full) as server:
        with Client(server.port, magic=0) as stranger:
            assert stranger.answer() is None
        assert is_free(server)


def test_a_full_disk_refuses_sessions_while_it_is_full(tmp_path):
    with faking_server("def extension(folder): pass", tmp_path, work=str(tmp_path / "work")) as server:
        # Without the right to make a folder there, it is as without room; for root nothing lacks the right.
        (tmp_path / "work").write_text("")
        with pytest.raises(Exception, match="netadapt-device cannot serve a session now: Not a directory"):
            rpc.connect("127.0.0.1", server.port, session_timeout=10)
        (tmp_path / "work").unlink()
        assert is_free(server)


def test_an_upload_that_does_not_fit_fails():
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    with device_server(before=limited) as server:
        session = rpc.connect("127.0.0.1", server.port, session_timeout=10)
        session.upload(bytearray(1000), "fits")
        with pytest.raises(Exception, match=r"cannot store 'model', 1,001 bytes: File too large"):
            session.upload(bytearray(1001), "model")
        with pytest.raises(Exception, match="model"):
            session.load_module("model")
        del session
        assert is_free(server)


def test_more_clients_than_select_can_take():
    """Strangers that say nothing have no effect on those who do."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4000:
        pytest.skip("this system allows fewer open files")
    # So that descriptors of connections begin above what select takes.
    many = "import os; kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]"
    allowed = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(device_server(before=f"{allowed}; {many}"))
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert is_free(server)


def test_a_server_without_descriptors_makes_way():
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(device_server(before=limited))
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert is_free(server)


# ---- Who can reach it


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
def test_listening_beyond_this_machine_is_warned_of(host, warned):
    with device_server("--host", host) as server:
        os.kill(server.pid, signal.SIGTERM)
        server.process.wait(5)
        said = server.process.stderr.read().decode()
    assert ("WARNING: listening on 0.0.0.0: whoever reaches this port can run any code here" in said) == warned


# ---- Trackers that are none


@pytest.mark.parametrize(
    "answers",
    [[b"null"], [b"5"], [b"[0,null]"], [b"[" * 100_000], [b"0", b"null"], [b"0", b"0", b"5"], [b"\xff"], [b"-1"]],
    ids=["null", "number", "list", "deep", "no put", "no pings", "no text", "refusal"],
)
def test_a_tracker_that_answers_nonsense_ends_nothing(answers):
    with (
        FakeTracker([message(answer) for answer in answers]) as tracker,
        device_server("--tracker", tracker.address, "--key", "pi") as server,
    ):
        assert tracker.left.acquire(timeout=10)
        assert server.process.poll() is None
        # Without a tracker's key it serves nobody, but it answers at once.
        with Client(server.port, "client:pi") as client:
            assert client.answer() == WRONG_KEY


@pytest.mark.parametrize("start", [b"", struct.pack("<i", 1 << 30), struct.pack("<i", -1)])
def test_a_tracker_that_goes_on_slowly_keeps_nobody_waiting(start):
    """A byte every 0.4 s is not a sign of life."""
    with (
        FakeTracker([start], drip=True) as tracker,
        device_server("--tracker", tracker.address, "--key", "pi") as server,
    ):
        tracker.asked.acquire(timeout=5)
        begun = time.monotonic()
        with Client(server.port, "client:pi") as client:
            assert client.answer() == WRONG_KEY
        assert time.monotonic() - begun < 4


def test_the_documented_command_starts_a_tracker():
    port = free_port()
    command = [sys.executable, "-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--port-end", str(port + 1)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with device_server("--tracker", f"127.0.0.1:{port}", "--key", "pi"):
            wait_until(lambda: knows(Tracker(f"127.0.0.1:{port}", 1), "pi"), 30)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
