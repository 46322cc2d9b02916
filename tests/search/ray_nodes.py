"""Nodes of a real Ray cluster on this machine, each started by `ray start` as on machines of their own."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

START_LIMIT_S = 90

# The nodes are for this process and its children alone. Set here, because Ray reads it when it is imported.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class RayNodes:
    """A head node, which makes no proposals unless it has processors, and others that come and go."""

    def __init__(self, processors: int = 0) -> None:
        # Short, for the sockets in it.
        self._folder = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
        self._settings = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parent)}
        self._gcs, client = free_port(), free_port()
        self.address = f"ray://127.0.0.1:{client}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.head = self._start(
            *["--head", f"--port={self._gcs}", f"--ray-client-server-port={client}", f"--temp-dir={self._folder}"],
            *["--include-dashboard=false", f"--num-cpus={processors}"],
        )
        wait_until(lambda: listens(client))

    def add(self, **settings: str) -> subprocess.Popen[bytes]:
        """One more node, of one processor."""
        return self._start(f"--address=127.0.0.1:{self._gcs}", "--num-cpus=1", **settings)

    def have(self, count: int) -> list[subprocess.Popen[bytes]]:
        """So many living nodes beside the head node."""
        living = [node for node in self._nodes[1:] if node.poll() is None]
        for node in living[count:]:
            kill(node)
        return [*living[:count], *(self.add() for _ in range(count - len(living)))]

    def _start(self, *options: str, **settings: str) -> subprocess.Popen[bytes]:
        output = self._folder / f"node{len(self._nodes)}"
        node = subprocess.Popen(
            [
                *[sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block"],
                *["--node-ip-address=127.0.0.1", "--object-store-memory=200000000"],
                *["--min-worker-port=0", "--max-worker-port=0"],
            ],
            env={**os.environ, **self._settings, **settings},
            stdout=output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._nodes.append(node)
        # One after the other: two on one machine that start at once choose the same names.
        wait_until(lambda: "Ray runtime started" in output.read_text())
        return node

    def stop(self) -> None:
        for node in reversed(self._nodes):
            kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)


def kill(node: subprocess.Popen[bytes]) -> None:
    """As if the power went: what runs on a node ends with the process that started it."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(holds: Callable[[], bool], limit_s: float = START_LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
