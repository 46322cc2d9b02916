"""Real servers for the tests of this folder, on this machine: what a board would run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from netadapt.measure.platform import OrtRuntime, Platform, Rpc, TvmRuntime, TvmTarget
from netadapt.measure.rpc.on_device import netadapt_device

_FILE = Path(netadapt_device.__file__)
_START_LIMIT_S = 60.0


class Server:
    """A process in a process group of its own, which says `READY port`."""

    def __init__(self, command, ready=b"READY ", environment=None, stderr=subprocess.PIPE):
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        self.lines = b""
        while ready not in self.lines or not self.lines.endswith(b"\n"):
            assert select.select([self.process.stdout], [], [], _START_LIMIT_S)[0], "the server does not start"
            part = os.read(self.process.stdout.fileno(), 4096)
            assert part, self.process.stderr.read().decode()
            self.lines += part
        self.port = int(self.lines.split(ready)[1].split()[0])
        self.address = f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def close(self):
        """End it and all that it started."""
        for pid in [*descendants(self.pid), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM if pid == self.pid else signal.SIGKILL)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        if self.process.stderr:
            self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def device_server(*arguments, port=0, before="", **options):
    """`netadapt-device`, as a board runs it: the file alone; `before` is run before."""
    # A board has no torch, which TVM would import.
    start = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    return Server([sys.executable, "-c", f"{before}\n{start}", str(_FILE), "--port", str(port), *arguments], **options)


def faking_server(extension, folder, port=0, work=None):
    """The device server with the functions that a piece of source code registers in a session."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(_FILE.parent)!r})\n"
        "import json\n"
        "from pathlib import Path\n"
        "import netadapt_device as server\n"
        f"{extension}\n"
        f"server.serve(server.Options(port={port}, work={work!r}), [extension])\n"
    )
    return Server([sys.executable, "-c", code], environment={"FAULT": str(folder / "fault")})


def stock_server():
    """TVM's own server: the process that its command starts in turn, by a package that need not be there."""
    code = (
        "import os, sys\n"
        "sys.modules['torch'] = None\n"
        "os.environ['TVM_USE_RUNTIME_LIB'] = '1'\n"
        "from tvm.rpc.server import PopenRPCServerState\n"
        "print('READY', PopenRPCServerState('127.0.0.1', 9100, 9400, silent=True).port, flush=True)\n"
    )
    return Server([sys.executable, "-c", code])


class FakeBoard:
    """Takes every client as a server of TVM's RPC does, and answers its first question with some bytes."""

    def __init__(self, answer, end=False, taken=b"\x71\xf2\x0f\x00\x07\x00\x00\x00server:"):
        self._answer, self._end, self._taken = answer, end, taken
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        #: What came back after the answer, of each client.
        self.heard = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError, struct.error):
            hello = connection.recv(8, socket.MSG_WAITALL)
            connection.recv(struct.unpack("<ii", hello)[1], socket.MSG_WAITALL)
            connection.sendall(self._taken)
            length = struct.unpack("<Q", connection.recv(8, socket.MSG_WAITALL))[0]
            connection.recv(length, socket.MSG_WAITALL)
            connection.sendall(self._answer)
            while not self._end:
                part = connection.recv(4096)
                self.heard.append(part)
                if not part:
                    break

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


def packet(kind, content=b""):
    """A packet of TVM's RPC."""
    return struct.pack("<Qi", 4 + len(content), kind) + content


def message(text):
    """A message of a tracker's."""
    return struct.pack("<i", len(text)) + text


class FakeTracker:
    """Shows itself as a tracker, then answers each question of a connection with the next of some bytes.

    With `drip`, it goes on with a byte every 0.4 s after the last.
    """

    def __init__(self, answers, drip=False, magic=b"\x71\xf2\x02\x00"):
        self._answers, self._drip, self._magic = answers, drip, magic
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        #: Released for each connection that has begun, and that has ended.
        self.asked, self.left = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        # The latter: it has gone.
        with connection, contextlib.suppress(OSError, struct.error):
            connection.recv(4, socket.MSG_WAITALL)
            connection.sendall(self._magic)
            self.asked.release()
            for answer in self._answers:
                length = struct.unpack("<i", connection.recv(4, socket.MSG_WAITALL))[0]
                connection.recv(length, socket.MSG_WAITALL)
                connection.sendall(answer)
            while self._drip:
                time.sleep(0.4)
                connection.sendall(b"\0")
            connection.recv(1)
        self.left.release()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def platform(server=None, tracker=None, key="", runtime="tvm", linker="cc", **limits):
    """A definition of a board that is this machine."""
    target = TvmTarget(kind="llvm", linker=str(linker))
    return Platform(
        schema_version=1,
        name="test-board",
        title="a board for tests",
        tier="device",
        transport="rpc",
        runtime=TvmRuntime(name="tvm", target=target) if runtime == "tvm" else OrtRuntime(name="ort"),
        rpc=Rpc(
            server=server,
            tracker=tracker,
            key=key,
            board="this machine",
            **{"connect_limit_s": 2.0, "busy_limit_s": 2.0, "session_limit_s": 30.0, **limits},
        ),
        width_multiple=8,
        card="for tests",
        protocol={"workload_time_limit_s": 0.1, "network_time_limit_s": 0.1},
    )


def descendants(pid):
    """Process ids of all that a process has started and that still runs."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    young = [pid]
    while young:
        young = [child for child, parent in parents.items() if parent in young]
        found += young
    return found


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition, limit_s=10.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
