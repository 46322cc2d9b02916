"""Whoever answers at the address of a board or a tracker: nonsense, too much, too slow, or a wish of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from board_servers import FakeBoard, FakeTracker, alive, message, packet, platform

from netadapt.errors import DeviceError, DeviceLost, MeasurementError
from netadapt.measure.rpc.handshake import connected
from netadapt.measure.rpc.relay import Relay
from netadapt.measure.rpc.supervisor import Worker
from netadapt.measure.rpc.tracker import Board, Tracker

pytestmark = pytest.mark.timeout(120)

SHUTDOWN, INIT_SERVER, CALL, RETURN, COPY_FROM, COPY_TO, SYSCALL = 1, 2, 3, 4, 6, 7, 9
NOTHING = struct.pack("<ii", 1, 0)
#: As it would begin to use the client as a server: a session of its own there, then any function by its name.
OWN_SESSION = packet(INIT_SERVER, struct.pack("<Q", 5) + b"0.8.0" + struct.pack("<i", 0))


# ---- Boards


@pytest.fixture(scope="module")
def relay():
    relay = Relay()
    yield relay
    relay.close()


def begun(relay, board, limit_s=5):
    host, _, port = board.address.partition(":")
    return relay.session(connected(Board(host, int(port), ""), 10, limit_s))


@pytest.mark.parametrize(
    "kind", [0, SHUTDOWN, INIT_SERVER, CALL, COPY_FROM, COPY_TO, SYSCALL, SYSCALL + 1, -1, 1 << 30]
)
def test_a_board_may_answer_and_nothing_else(relay, kind):
    with FakeBoard(packet(kind, bytes(64))) as board:
        with pytest.raises(Exception, match=f"cut off by netadapt: a packet of kind {kind}, which is no answer"):
            begun(relay, board)
        deadline = time.monotonic() + 5
        while not board.heard and time.monotonic() < deadline:
            time.sleep(0.01)
        # Not even an error came back to it; the client may have said that it goes.
        assert b"".join(board.heard) in (b"", packet(SHUTDOWN))


@pytest.mark.parametrize("length", [0, 3, (1 << 30) + 1, 8 << 30, (1 << 64) - 1])
def test_an_answer_of_absurd_length_is_not_awaited(relay, length):
    with (
        FakeBoard(struct.pack("<Qi", length, RETURN)) as board,
        pytest.raises(Exception, match=f"cut off by netadapt: a packet of {length} bytes"),
    ):
        begun(relay, board)


def test_a_board_that_goes_away_in_the_middle_of_an_answer(relay):
    with FakeBoard(packet(RETURN, NOTHING)[:-3], end=True) as board, pytest.raises(Exception, match="Channel closes"):
        begun(relay, board)


def test_a_client_without_the_token_is_given_no_board(relay):
    with FakeBoard(packet(RETURN, NOTHING)) as board:
        host, _, port = board.address.partition(":")
        connection = connected(Board(host, int(port), ""), 10, 5)
        with socket.create_connection(("127.0.0.1", relay._port)) as stranger:
            stranger.sendall(struct.pack("<ii", 0xFF271, 39) + b"client:" + b"0" * 32)
            session = relay.session(connection)
            with contextlib.suppress(ConnectionResetError):
                assert not stranger.recv(1)
        assert session


def test_one_word_says_that_a_board_wants_more_than_to_answer():
    with FakeBoard(OWN_SESSION) as board, Worker(platform(board.address).rpc) as worker:
        with pytest.raises(DeviceError, match=rf"board at {board.address} was cut off: it sent a packet of kind 2"):
            open_anything(worker, board.address)
        # It goes on to work for others.
        assert worker.usable


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a server of TVM's RPC"),
        (struct.pack("<ii", 0xFF271, -1), "has a key of -1 bytes"),
        (struct.pack("<ii", 0xFF271, 1 << 30), "has a key of 1073741824 bytes"),
        (b"\x71", "does not answer within 1 s"),
    ],
    ids=["web", "negative", "long", "slow"],
)
def test_what_does_not_greet_as_a_server(taken, told):
    with FakeBoard(b"", taken=taken) as board:
        host, _, port = board.address.partition(":")
        with pytest.raises(DeviceLost, match=told):
            connected(Board(host, int(port), ""), 10, 1)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "no-such-host.invalid"])
def test_what_is_no_name_of_a_host(host):
    with pytest.raises(DeviceLost, match="cannot connect to a board at"):
        connected(Board(host, 9090, ""), 10, 2)
    with pytest.raises(DeviceLost, match=r"the tracker .* is lost"):
        Tracker(f"{host}:9190", 2).servers()


def open_anything(worker, address):
    from netadapt.network.workload import Workload
    from netadapt.network.workload_onnx import workload_to_onnx

    model = workload_to_onnx(Workload("activation", (4,), 4, activation="relu"))
    where = {"server": address, "tracker": None, "key": ""}
    limits = {"connect_limit_s": 5.0, "busy_limit_s": 2.0, "session_limit_s": 10.0}
    runtime = {"name": "ort", "threads": 1}
    return worker.ask("open", model, name="m", interior=False, runtime=runtime, where={**where, **limits})


# ---- The worker


def test_the_process_that_talks_to_boards_is_confined(monkeypatch):
    """Of what it may do: no credentials, bounded memory, no image of its memory on disk."""
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "PIP_INDEX_URL", "MY_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with FakeBoard(OWN_SESSION) as board, Worker(platform(board.address).rpc) as worker:
        with pytest.raises(DeviceError):
            open_anything(worker, board.address)
        names = {entry.partition("=")[0] for entry in _of(worker.pid, "environ").split("\0")}
        assert not {name for name in names if "secret" in os.environ.get(name, "")}
        assert {"PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS"} <= names
        limits = {line[:20].strip(): line[20:].split()[:2] for line in _of(worker.pid, "limits").splitlines()}
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert int(limits["Max data size"][1]) <= max(4 << 30, memory_bytes / 2)
        assert limits["Max core file size"] == ["0", "0"]
        children = _of(worker.pid, f"task/{worker.pid}/children").split()
        relays = [pid for pid in children if "relay_process" in _of(pid, "cmdline")]
        assert [_of(pid, "environ") for pid in relays] == [""]
    assert not any(alive(int(pid)) for pid in relays)


def test_no_room_for_temporary_files_is_told(tmp_path, monkeypatch):
    (tmp_path / "full").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    with pytest.raises(MeasurementError, match="cannot start a process for measuring: no temporary file"):
        Worker(platform("127.0.0.1:1").rpc)


def _of(pid, what):
    return Path(f"/proc/{pid}/{what}").read_text()


# ---- Trackers


@pytest.mark.parametrize(
    "answer",
    [
        b"null",
        b"5",
        b"[0,null]",
        b"[0,5]",
        b"[" * 100_000,
        b"[0]",
        b"[0,{}]",
        b'[0,{"server_info":5}]',
        b"\xff",
        b"9" * 5000,
    ],
)
def test_a_tracker_that_answers_nonsense(answer):
    with FakeTracker([message(answer)]) as tracker, pytest.raises(DeviceLost, match="does not answer as one of TVM's"):
        Tracker(tracker.address, 2).servers()


@pytest.mark.parametrize("info", ["null", "5", "{}", '{"key": 5, "addr": ["a", 1]}', '{"key": "server:x", "addr": 7}'])
def test_a_board_that_registers_with_nonsense_hides_no_other(info):
    good = '{"key": "server:pi", "addr": ["127.0.0.1", 9090]}'
    answer = message(f'[0, {{"server_info": [{info}, {good}]}}]'.encode())
    with FakeTracker([answer]) as tracker:
        assert Tracker(tracker.address, 2).servers() == [("pi", ("127.0.0.1", 9090))]


@pytest.mark.parametrize(
    "board",
    ["null", "[]", '["h", 0, "k"]', '["h", 70000, "k"]', '[5, 9090, "k"]', '["h", 9090, null]', '["h", [], "k"]'],
)
def test_a_tracker_that_gives_no_usable_board(board):
    known = message(b'[0, {"server_info": [{"key": "server:pi", "addr": ["127.0.0.1", 9090]}]}]')
    with ByQuestion(known, message(f"[0, {board}]".encode())) as tracker, pytest.raises(DeviceLost, match="but: "):
        Tracker(tracker.address, 2).acquire("pi", 2)


class ByQuestion(FakeTracker):
    """Answers what is known, and what is asked for, each time in the same way."""

    def __init__(self, known, board):
        self._known, self._board = known, board
        super().__init__([])

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError, struct.error):
            connection.recv(4, socket.MSG_WAITALL)
            connection.sendall(self._magic)
            length = struct.unpack("<i", connection.recv(4, socket.MSG_WAITALL))[0]
            question = connection.recv(length, socket.MSG_WAITALL)
            connection.sendall(self._known if question == b"[6]" else self._board)
            connection.recv(1)


@pytest.mark.parametrize("start", [b"", struct.pack("<i", 1 << 20)], ids=["from the start", "in the middle"])
def test_a_byte_now_and_then_is_not_an_answer_in_time(start):
    begun_s = time.monotonic()
    with FakeTracker([start], drip=True) as tracker, pytest.raises(DeviceLost, match="did not answer within 1 s"):
        Tracker(tracker.address, 1).servers()
    assert time.monotonic() - begun_s < 3


def test_many_open_files_of_a_client_are_no_matter():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this system allows fewer open files")
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))\n"
        "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "from netadapt.measure.rpc.tracker import Tracker\n"
        "print(Tracker(sys.argv[1], 5).acquire('pi', 5).host)\n"
    )
    known = message(b'[0, {"server_info": [{"key": "server:pi", "addr": ["127.0.0.1", 9090]}]}]')
    with ByQuestion(known, message(b'[0, ["here", 9090, "pi:1"]]')) as tracker:
        done = subprocess.run([sys.executable, "-c", code, tracker.address], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("here\n", 0), done.stderr
