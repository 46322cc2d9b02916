"""The device server: runs on a board and lets netadapt measure there, over TVM's RPC protocol.

This file stands alone. It needs Python 3.10 or later and TVM's runtime, and onnxruntime where that is to be measured:

    pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 onnxruntime
    python netadapt_device.py --host 0.0.0.0 --port 9090 --cores 4-7

Whoever reaches its port can run any code here. Use it only in a network that you trust.

One client is served at a time, in a fork of its own: a library that crashes or hangs takes only its session along.
Further clients are refused at once, so that they can tell a busy board from a dead one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

#: Version of the functions that a session offers besides TVM's own.
PROTOCOL = 1
TVM_PACKAGES = "apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1"

_DEFAULT_PORT = 9090
_DEFAULT_SESSION_LIMIT_S = 3600.0
#: A client has this long to say who it is, and one that is told why it cannot be served to read it.
_HANDSHAKE_LIMIT_S = 5.0
_READING_LIMIT_S = 2.0
#: So many clients may be about to say who they are; the one that came first is then sent away.
_MOST_GREETINGS = 64
_LONGEST_KEY = 4096
#: For all that a tracker is asked at a time.
_TRACKER_LIMIT_S = 2.0
_MOST_TRACKER_BYTES = 1 << 20
_TRACKER_RETRY_S = 2.0
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_NO_MORE_FILES_PAUSE_S = 0.1
_PING_S = 2.0
#: A key that a client has got from the tracker and not used for so many pings is replaced.
_UNUSED_PINGS = 3
_PR_SET_PDEATHSIG = 1
_CORE = re.compile("[0-9]{1,5}")
#: What clients can ask for: a greeting is divided at spaces, and a tracker's key at colons.
_KEY = re.compile("[A-Za-z0-9._-]*")
_THERMAL_ZONES = Path("/sys/class/thermal")
_CPUS = Path("/sys/devices/system/cpu")

Address = tuple[str, int]
#: Registers more functions, in the fork of a session; is given the session's work folder.
Extension = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to serve."""

    host: str = "127.0.0.1"
    #: 0 takes any free one.
    port: int = 0
    tracker: Address | None = None
    key: str = ""
    #: A session that takes longer is ended, also when its client asked for more.
    session_limit_s: float = _DEFAULT_SESSION_LIMIT_S
    #: Host under which clients of the tracker reach this server; None is the one that the tracker sees.
    advertise: str | None = None
    #: Where the folders of sessions are made, relative to the current folder; None is a temporary folder.
    work: str | None = None


class _Stopped(Exception):  # noqa: N818 - not an error
    """SIGTERM or SIGINT has arrived."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `netadapt-device`."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.tracker and not given.key:
        parser.error("--tracker needs --key: what clients ask the tracker for")
    _pin(given.cores)
    options = Options(
        host=given.host,
        port=given.port,
        tracker=given.tracker,
        key=given.key,
        session_limit_s=given.session_limit,
        advertise=given.advertise,
    )
    serve(options)


def serve(options: Options, extensions: Sequence[Extension] = ()) -> None:
    """Serve sessions until SIGTERM or SIGINT; prints `READY port` once clients can connect.

    Raises:
        SystemExit: TVM is not there, or the port cannot be had; the exit code is 2.

    """
    try:
        listener = _listen(options.host, options.port)
    # The latter: what is no name of a host.
    except (OSError, UnicodeError) as error:
        _fail(f"cannot listen on {options.host}:{options.port}: {getattr(error, 'strerror', None) or error}")
    _require_tvm()
    _warn_of_strangers(listener)
    with listener, _work_folder(options.work) as work:
        server = _Server(options, listener, work, extensions)
        # What cannot be written (a full disk) is missed by nobody who could connect.
        with contextlib.suppress(OSError):
            print("READY", listener.getsockname()[1], flush=True)
        with contextlib.suppress(_Stopped):
            server.run()


# --------------------------------------------------------------------------------------------------------- the server


@dataclass
class _Greeting:
    """A connection that has not yet said who it is."""

    connection: socket.socket
    deadline: float
    received: bytes = b""
    #: It was told why it cannot be served, and is to read that before the connection is closed.
    refused: bool = False

    def key(self) -> str | None:
        """What the client says, None while a part is missing.

        Raises:
            ValueError: it does not speak TVM's protocol.

        """
        from tvm.rpc.base import RPC_MAGIC

        if len(self.received) < 8:
            return None
        magic, length = struct.unpack("<ii", self.received[:8])
        if magic != RPC_MAGIC or not 0 <= length <= _LONGEST_KEY:
            raise ValueError("not a client of TVM's RPC")
        if len(self.received) < 8 + length:
            return None
        return self.received[8 : 8 + length].decode()


@dataclass
class _Session:
    """A client that is served, by a fork that leads a process group."""

    pid: int
    connection: socket.socket
    deadline: float
    limit_s: float
    expired: bool = False


class _Server:
    """Accepts clients one at a time. Single-threaded: it only ever waits for all its connections together."""

    def __init__(self, options: Options, listener: socket.socket, work: str, extensions: Sequence[Extension]) -> None:
        self._options = options
        self._listener = listener
        self._extensions = extensions
        self._folder = os.path.join(work, "session")
        self._greetings: list[_Greeting] = []
        self._session: _Session | None = None
        #: How the last session ended, when not by itself: a signal's name, "limit" or "exit code N".
        self._previous: str | None = None
        port = listener.getsockname()[1]
        self._tracker = _Tracker(options.tracker, options.key, port, options.advertise) if options.tracker else None

    def run(self) -> NoReturn:
        """Serve until a signal raises `_Stopped`."""
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(woken, False)
        self._private = [woken, waker]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        # The end of a session has to end the wait below.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        try:
            while True:
                self._turn(woken)
        finally:
            signal.set_wakeup_fd(-1)
            if self._session:
                self._kill(self._session)
                self._finish(self._session)

    def _turn(self, woken: int) -> None:
        self._end_session()
        if self._tracker and not self._session:
            self._tracker.keep()
        # Not select: it fails for descriptors above 1,023.
        waiting = select.poll()
        listener = self._listener.fileno()
        for descriptor in (woken, listener, *(greeting.connection.fileno() for greeting in self._greetings)):
            waiting.register(descriptor, select.POLLIN)
        patience_s = self._patience_s()
        ready = {descriptor for descriptor, _ in waiting.poll(None if patience_s is None else 1000 * patience_s)}
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        for greeting in list(self._greetings):
            if greeting.connection.fileno() in ready:
                self._greet(greeting)
            elif time.monotonic() > greeting.deadline:
                self._dismiss(greeting, "said nothing")
        if listener in ready:
            self._accept()

    def _patience_s(self) -> float | None:
        """How long there is nothing to do unless something arrives."""
        deadlines = [greeting.deadline for greeting in self._greetings]
        if self._session:
            deadlines.append(self._session.deadline)
        elif self._tracker:
            deadlines.append(self._tracker.due)
        return max(0.0, min(deadlines) - time.monotonic()) + 0.001 if deadlines else None

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()[0]
        except OSError as error:
            # The client is gone already, or there are too many open files.
            _log(f"cannot accept a client: {error}")
            if error.errno in _NO_MORE_FILES:
                self._make_way()
            return
        connection.setblocking(False)
        if len(self._greetings) >= _MOST_GREETINGS:
            self._dismiss(self._greetings[0], "too many others came meanwhile")
        self._greetings.append(_Greeting(connection, time.monotonic() + _HANDSHAKE_LIMIT_S))

    def _make_way(self) -> None:
        """Have room for a client that waits, or let a moment pass."""
        if self._greetings:
            self._dismiss(self._greetings[0], "there are too many open files")
        else:
            time.sleep(_NO_MORE_FILES_PAUSE_S)

    def _greet(self, greeting: _Greeting) -> None:
        if greeting.refused:
            self._await_end(greeting)
            return
        try:
            # Not a byte more than the greeting has: what follows is for the session.
            part = greeting.connection.recv(_missing(greeting.received))
            greeting.received += part
            key = greeting.key()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._dismiss(greeting, str(error))
            return
        if key is not None:
            self._answer(greeting, key)
        elif not part:
            self._dismiss(greeting, "went away")

    def _answer(self, greeting: _Greeting, key: str) -> None:
        from tvm.rpc import base

        name, *wishes = key.split() or [""]
        self._end_session()
        if self._session:
            self._refuse(greeting, base.RPC_CODE_DUPLICATE, "busy")
        elif name != f"client:{self._tracker.match_key if self._tracker else self._options.key}":
            self._refuse(greeting, base.RPC_CODE_MISMATCH, f"it asked for {name!r}")
        else:
            answer = ("server:" + self._options.key).encode()
            greeting.connection.setblocking(True)
            with contextlib.suppress(OSError):  # The session will notice, too.
                greeting.connection.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(answer)) + answer)
            self._start_session(greeting, min(_wished_limit_s(wishes), self._options.session_limit_s))

    def _refuse(self, greeting: _Greeting, code: int, why: str) -> None:
        with contextlib.suppress(OSError):
            greeting.connection.sendall(struct.pack("<i", code))
        self._dismiss(greeting, f"refused: {why}")

    def _await_end(self, greeting: _Greeting) -> None:
        """Read on, for closing a connection with unread bytes takes back what was sent."""
        with contextlib.suppress(BlockingIOError):
            try:
                part = greeting.connection.recv(4096)
            except BlockingIOError:
                raise
            except OSError:
                part = b""
            if not part:
                self._dismiss(greeting, "was told why")

    def _dismiss(self, greeting: _Greeting, why: str) -> None:
        _log(f"a client was turned away ({why})")
        greeting.connection.close()
        self._greetings.remove(greeting)

    def _start_session(self, greeting: _Greeting, limit_s: float) -> None:
        connection = greeting.connection
        if self._tracker:
            self._tracker.taken()
        server = os.getpid()
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.makedirs(self._folder)
            pid = os.fork()
        except OSError as error:
            # A full disk, no inodes, or no process more: this may pass.
            self._tell_refusal(greeting, f"netadapt-device cannot serve a session now: {error.strerror}")
            return
        if not pid:
            self._greetings.remove(greeting)
            self._become_session(connection, server)
        self._greetings.remove(greeting)
        # Both do it: neither may come too late for the other.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._session = _Session(pid, connection, time.monotonic() + limit_s, limit_s)
        _log(f"session {pid} started, for at most {limit_s:g} s")

    def _tell_refusal(self, greeting: _Greeting, why: str) -> None:
        _log(f"a client is not served: {why}")
        _send_error(greeting.connection, why)
        greeting.connection.setblocking(False)
        greeting.refused = True
        greeting.deadline = time.monotonic() + _READING_LIMIT_S

    def _become_session(self, connection: socket.socket, server: int) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            _die_with(server)
            _die_before_others()
            self._close_what_is_not_the_sessions()
            # Standard output is for READY alone.
            os.dup2(2, 1)
            os.chdir(self._folder)
            _serve_session(connection, self._previous, self._extensions, self._folder)
            code = 0
        except BaseException as error:
            _log(f"session {os.getpid()}: {type(error).__name__}: {error}")
        finally:
            os._exit(code)

    def _close_what_is_not_the_sessions(self) -> None:
        for descriptor in self._private:
            os.close(descriptor)
        self._listener.close()
        for greeting in self._greetings:
            greeting.connection.close()
        if self._tracker:
            self._tracker.disconnect()

    def _end_session(self) -> None:
        """Look whether the session has ended, or has to be ended."""
        session = self._session
        if not session:
            return
        if not _has_ended(session.pid):
            if time.monotonic() < session.deadline:
                return
            session.expired = True
        self._kill(session)
        self._finish(session)

    def _kill(self, session: _Session) -> None:
        """End the session and all its children. Its process is not yet reaped, so that its number is still its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGKILL)

    def _finish(self, session: _Session) -> None:
        status = os.waitpid(session.pid, 0)[1]
        self._previous = "limit" if session.expired else _ending(status)
        _log(f"session {session.pid} ended" + (f" by {self._previous}" if self._previous else ""))
        if session.expired:
            _say_expired(session)
        session.connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._session = None


def _missing(received: bytes) -> int:
    """How many bytes of a greeting are still to come, at least, given those that were received."""
    if len(received) < 8:
        return 8 - len(received)
    return max(1, 8 + int(struct.unpack("<i", received[4:8])[0]) - len(received))


def _wished_limit_s(wishes: Sequence[str]) -> float:
    """The time limit that a client asks for, in the words that follow its key."""
    for wish in wishes:
        if wish.startswith("-timeout="):
            with contextlib.suppress(ValueError):
                limit_s = float(wish[len("-timeout=") :])
                if limit_s > 0:
                    return limit_s
    return float("inf")


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ending(status: int) -> str | None:
    """Name what ended a session; None when it ended by itself."""
    if os.WIFSIGNALED(status):
        try:
            return signal.Signals(os.WTERMSIG(status)).name
        except ValueError:
            return f"signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    return f"exit code {code}" if code else None


def _say_expired(session: _Session) -> None:
    _send_error(session.connection, f"RPCSessionTimeoutError: the session was ended after {session.limit_s:g} s")


def _send_error(connection: socket.socket, message: str) -> None:
    """Let what a client calls next, or is waiting for, fail with a message."""
    from tvm.rpc import _ffi_api

    # A client that does not read must not keep the server waiting.
    connection.setblocking(False)
    with contextlib.suppress(Exception):  # It may be gone.
        _ffi_api.ReturnException(connection.fileno(), message)
        connection.shutdown(socket.SHUT_WR)


def _die_with(server: int) -> None:
    """Let the kernel end this process when the server is killed, where the kernel can (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _die_before_others() -> None:
    """Let the kernel end this process, not the server, when memory runs out, where the kernel can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


# -------------------------------------------------------------------------------------------------------- the tracker


class _Tracker:
    """The server's entry at a tracker, under a key that is new for each client."""

    def __init__(self, address: Address, key: str, port: int, advertise: str | None) -> None:
        self._address = address
        self._key = key
        self._port = port
        self._advertise = advertise
        self._connection: socket.socket | None = None
        self._offered: str | None = None
        self._unused_pings = 0
        self._reachable = True
        #: When `keep` has something to do, and has to be done.
        self.due = 0.0
        self._deadline = 0.0

    @property
    def match_key(self) -> str | None:
        """What the next client has to know; None while there is no entry."""
        return self._offered

    def taken(self) -> None:
        """Forget the entry, which a client has used up."""
        self._offered = None
        self.due = 0.0

    def disconnect(self) -> None:
        """Close the connection, and with it the entry."""
        if self._connection:
            self._connection.close()
        self._connection = None
        self._offered = None

    def keep(self) -> None:
        """Connect, offer a key, and look from time to time whether it is still there. Takes a moment at most."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + _PING_S
        self._deadline = now + _TRACKER_LIMIT_S
        known = self._connection is not None
        try:
            if not self._connection:
                self._connection = self._connected()
            if not self._offered or self._is_unused():
                self._offer()
            self._note(True, "registered")
        except (OSError, ValueError) as error:
            self.disconnect()
            # A tracker that was restarted is there again at once.
            self.due = now if known else now + _TRACKER_RETRY_S
            self._note(False, f"cannot register: {error}")

    def _connected(self) -> socket.socket:
        from tvm.rpc.base import RPC_TRACKER_MAGIC, TrackerCode

        connection = socket.create_connection(self._address, timeout=_TRACKER_LIMIT_S)
        try:
            connection.sendall(struct.pack("<i", RPC_TRACKER_MAGIC))
            if _received(connection, 4, self._deadline) != struct.pack("<i", RPC_TRACKER_MAGIC):
                raise ValueError("it is not a tracker")
            address = (self._advertise, self._port)
            question = [TrackerCode.UPDATE_INFO, {"key": "server:" + self._key, "addr": address}]
            self._require_success(_ask(connection, question, self._deadline))
        except BaseException:
            connection.close()
            raise
        return connection

    def _offer(self) -> None:
        from tvm.rpc.base import TrackerCode, random_key

        assert self._connection
        key = random_key(self._key)
        question = [TrackerCode.PUT, self._key, (self._port, key), self._advertise]
        self._require_success(_ask(self._connection, question, self._deadline))
        self._offered = key
        self._unused_pings = 0

    def _is_unused(self) -> bool:
        """Whether a client got the key some time ago and never came."""
        from tvm.rpc.base import TrackerCode

        assert self._connection
        pending = _ask(self._connection, [TrackerCode.GET_PENDING_MATCHKEYS], self._deadline)
        if not isinstance(pending, list):
            raise ValueError(f"it does not answer as a tracker does, but: {str(pending)[:40]!r}")
        self._unused_pings = 0 if self._offered in pending else self._unused_pings + 1
        return self._unused_pings > _UNUSED_PINGS

    def _require_success(self, answer: Any) -> None:
        from tvm.rpc.base import TrackerCode

        if answer != TrackerCode.SUCCESS:
            raise ValueError(f"it does not register this board, but answers: {str(answer)[:40]!r}")

    def _note(self, reachable: bool, what: str) -> None:
        if reachable != self._reachable:
            _log(f"tracker {self._address[0]}:{self._address[1]}: {what}")
        self._reachable = reachable


def _ask(connection: socket.socket, question: list[Any], deadline: float) -> Any:
    """Ask a tracker something.

    Raises:
        OSError: it is gone, or does not answer before the deadline, however slowly it goes on.
        ValueError: it answers with nonsense.

    """
    text = json.dumps(question).encode()
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    connection.sendall(struct.pack("<i", len(text)) + text)
    length = struct.unpack("<i", _received(connection, 4, deadline))[0]
    if not 0 < length <= _MOST_TRACKER_BYTES:
        raise ValueError(f"it gave a message of {length} bytes")
    answer = _received(connection, length, deadline)
    try:
        return json.loads(answer)
    except RecursionError:
        raise ValueError("it gave JSON that is nested too deeply") from None


def _received(connection: socket.socket, count: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it is too slow")
        connection.settimeout(left_s)
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionResetError("it closed the connection")
        parts += part
    return bytes(parts)


# ---------------------------------------------------------------------------------------------------------- a session


def _serve_session(
    connection: socket.socket, previous: str | None, extensions: Sequence[Extension], folder: str
) -> None:
    from tvm.rpc import _ffi_api

    _register_files()
    _register("netadapt.describe", lambda: json.dumps(describe(previous)))
    _register("netadapt.state", lambda: json.dumps(state()))
    _register("netadapt.blocks", _vm_blocks)
    _OrtModels().register()
    for extension in extensions:
        extension(folder)
    _ffi_api.ServerLoop(connection.detach())


def _register(name: str, function: Callable[..., Any]) -> None:
    import tvm_ffi

    tvm_ffi.register_global_func(name, function, override=True)


def _register_files() -> None:
    """TVM's own functions for files; all are in the session's folder, which is the current one."""
    import tvm.runtime

    # With a slash, or a library would be looked for where the system has its own.
    _register("tvm.rpc.server.workpath", lambda name: "./" + str(name))
    _register("tvm.rpc.server.load_module", lambda name: tvm.runtime.load_module("./" + str(name)))
    # TVM's own does not notice a full disk.
    _register("tvm.rpc.server.upload", _upload)


def _upload(name: str, content: Any) -> None:
    try:
        Path("./" + str(name)).write_bytes(content)
    except OSError as error:
        # A part of a library must not be loaded.
        Path("./" + str(name)).unlink(missing_ok=True)
        raise OSError(f"cannot store {str(name)!r}, {len(content):,} bytes: {error.strerror}") from None


def describe(previous: str | None) -> dict[str, Any]:
    """What this board is, and how its previous session ended when not by itself."""
    import tvm

    return {
        "server": "netadapt-device",
        "protocol": PROTOCOL,
        "tvm": tvm.__version__,
        "onnxruntime": _version("onnxruntime"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "machine": _machine(),
        # What follows the numbers names a build, not a system.
        "os": f"{os.uname().sysname} {re.split('[^0-9.]', os.uname().release)[0]}",
        "cores": os.cpu_count() or 1,
        "affinity": sorted(_affinity()),
        "previous": previous,
    }


def state() -> dict[str, float | None]:
    """Temperature of the hottest zone, and the clock of the cores in use; None where the system does not tell."""
    zones = [_number(zone / "temp") for zone in sorted(_THERMAL_ZONES.glob("thermal_zone*"))]
    # A sensor that is off shows zero or less.
    temperatures = [zone / 1000 for zone in zones if zone and zone > 0]
    clocks = [_CPUS / f"cpu{core}" / "cpufreq" for core in sorted(_affinity())]
    current = [khz for khz in (_number(clock / "scaling_cur_freq") for clock in clocks) if khz]
    most = [khz for khz in (_number(clock / "cpuinfo_max_freq") for clock in clocks) if khz]
    return {
        "celsius": max(temperatures, default=None),
        # One core works and the others may sleep.
        "mhz": max(current) / 1000 if current else None,
        "max_mhz": max(most) / 1000 if most else None,
    }


def _vm_blocks(module: Any, function: str, device: str, runs: int, count: int) -> str:
    """Time blocks of runs of a function of a virtual machine, whose inputs are set; see `_blocks`."""
    import tvm.runtime

    invoke, name = module["invoke_stateful"], str(function)
    # What a GPU is told to do goes on when the call is over.
    sync = None if str(device) == "cpu" else tvm.runtime.device(str(device), 0).sync
    return _blocks(lambda: invoke(name), int(runs), int(count), sync)


def _blocks(run: Callable[[], object], runs: int, count: int, sync: Callable[[], object] | None = None) -> str:
    """Time `count` blocks of `runs` runs each, in this thread, after one run that is not timed.

    Gives the wall and CPU time of each in ns and how often the scheduler took its core away, and the state at the end.
    """
    clocks = [time.perf_counter_ns, time.thread_time_ns, _preemptions]
    blocks = []
    run()
    if sync:
        sync()
    for _ in range(count):
        start = [clock() for clock in clocks]
        for _ in range(runs):
            run()
        if sync:
            sync()
        blocks.append([clock() - before for clock, before in zip(clocks, start, strict=True)])
    return json.dumps({"blocks": blocks, "state": state()})


def _preemptions() -> int:
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nivcsw


class _OrtModels:
    """The models that a session has open in ONNX Runtime; functions name them by the number that `open` gives."""

    def __init__(self) -> None:
        self._models: list[_OrtModel] = []

    def register(self) -> None:
        """Offer them to the client."""
        _register("netadapt.ort_open", self.open)
        _register("netadapt.ort_set_input", lambda model, name, tensor: self._models[model].set_input(name, tensor))
        _register("netadapt.ort_run", lambda model: self._models[model].run())
        _register("netadapt.ort_output", lambda model, index: self._models[model].output(index))
        _register("netadapt.ort_blocks", lambda model, runs, count: _blocks(self._models[model].run, runs, count))

    def open(self, file: str, threads: int) -> int:
        """Open an uploaded ONNX file."""
        self._models.append(_OrtModel("./" + str(file), int(threads)))
        return len(self._models) - 1


class _OrtModel:
    """A model in ONNX Runtime, with its inputs and outputs bound so that a run copies nothing."""

    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._binding: Any = None
        self._feeds: dict[str, Any] = {}
        self._outputs: list[Any] = []

    def set_input(self, name: str, tensor: Any) -> None:
        """Set an input; all of them before the first run."""
        import numpy

        self._feeds[str(name)] = numpy.array(_to_numpy(tensor))

    def run(self) -> None:
        """Run the model once."""
        if self._binding is None:
            self._bind()
        self._session.run_with_iobinding(self._binding)

    def output(self, index: int) -> Any:
        """An output of the last run, as a tensor of TVM's."""
        import tvm.runtime

        return tvm.runtime.tensor(self._outputs[index].numpy())

    def _bind(self) -> None:
        """Bind memory that ONNX Runtime allocates: aligned as its own tensors inside a network are."""
        binding = self._session.io_binding()
        for name, array in self._feeds.items():
            binding.bind_ortvalue_input(name, _ort_value(array))
        names = [value.name for value in self._session.get_outputs()]
        # Only a run tells all shapes.
        self._outputs = [_ort_value(array) for array in self._session.run(names, self._feeds)]
        for position, name in enumerate(names):
            binding.bind_ortvalue_output(name, self._outputs[position])
        self._binding = binding


def _ort_value(array: Any) -> Any:
    from onnxruntime import OrtValue

    value = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
    value.update_inplace(array)
    return value


def _to_numpy(tensor: Any) -> Any:
    import numpy

    return tensor.numpy() if hasattr(tensor, "numpy") else numpy.from_dlpack(tensor)


# ------------------------------------------------------------------------------------------------------ this machine


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _machine() -> str:
    """Name the board, or its processor where the system does not name the board."""
    with contextlib.suppress(OSError):
        return Path("/proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name.strip(), value.strip())
    return fields.get("model name") or fields.get("Hardware") or os.uname().machine


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _version(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------------------- the command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netadapt-device",
        description="Let netadapt measure on this board: a server of TVM's RPC that also runs ONNX Runtime models."
        " It serves one client at a time, each in a process of its own. Whoever reaches its port can run any code"
        " here: use it only in a network that you trust.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: %(default)s)"
    )
    parser.add_argument("--port", type=_port, default=_DEFAULT_PORT, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--tracker", type=_address, metavar="HOST:PORT", help="register at this tracker of TVM's")
    parser.add_argument("--key", type=_key, default="", help="what clients call this kind of board; with a tracker")
    parser.add_argument("--cores", type=_cores, metavar="LIST", help="run on these cores only, such as 4-7 or 0,2")
    parser.add_argument(
        "--session-limit",
        type=_seconds,
        default=_DEFAULT_SESSION_LIMIT_S,
        metavar="SECONDS",
        help="end sessions that take longer (default: %(default)g)",
    )
    parser.add_argument(
        "--advertise", metavar="HOST", help="address to tell the tracker; default: the one it sees this board at"
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is between 0 and 65535")
    return port


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), _port(port)


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a key; use letters, digits, '.', '_' and '-'")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("a time limit is longer than 0 s")
    return seconds


def _cores(text: str) -> set[int]:
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (_CORE.fullmatch(first) and _CORE.fullmatch(last or first)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of cores, such as 4-7 or 0,2")
        cores.update(range(int(first), int(last or first) + 1))
    return cores


def _pin(cores: set[int] | None) -> None:
    """Run on some cores only, and let TVM use as many threads."""
    if cores:
        absent = sorted(cores - _affinity())
        if absent:
            _fail(f"there is no core {', '.join(map(str, absent))} to run on; this system offers {sorted(_affinity())}")
        os.sched_setaffinity(0, cores)
        # TVM would bind its threads to cores of its own choice.
        os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ.setdefault("TVM_NUM_THREADS", str(len(_affinity())))


def _warn_of_strangers(listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not (host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")):
        _log(
            f"WARNING: listening on {host}: whoever reaches this port can run any code here, as this user; use it only"
            " in a network that you trust"
        )


def _require_tvm() -> None:
    # A board needs neither the compiler, which takes 200 MB and some seconds to load, nor BLAS with its threads.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import tvm.rpc  # noqa: F401
    except ImportError as error:
        _fail(f"TVM's runtime is not there ({error}); install it: pip install {TVM_PACKAGES}")


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        # A client can be gone between the wait and the accept.
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _work_folder(given: str | None) -> Any:
    if given is not None:
        yield given
        return
    # Not TemporaryDirectory: a fork must not remove it.
    try:
        folder = tempfile.mkdtemp(prefix="netadapt-device-")
    except OSError as error:
        _fail(f"cannot make a folder for sessions: {error.strerror}; make room, or set TMPDIR to a folder elsewhere")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stop(*_: object) -> None:
    raise _Stopped


def _fail(message: str) -> NoReturn:
    print(f"netadapt-device: {message}", file=sys.stderr)
    raise SystemExit(2)


def _log(message: str) -> None:
    # A log on a full disk, or that nobody reads any more, must not end the server.
    with contextlib.suppress(OSError):
        print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
