"""A tracker of this process's own, for the boards that it starts: TVM's, on a free port of this machine only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Self

from netadapt.errors import MeasurementError
from netadapt.measure.rpc.processes import command, environment
from netadapt.measure.waiting import readable

_START_LIMIT_S = 60.0


class PrivateTracker:
    """A process that runs TVM's tracker until it is closed, or until this process ends.

    Raises:
        MeasurementError: it did not start.

    """

    def __init__(self) -> None:
        # TVM's own command needs to be told a port, which somebody else can take meanwhile.
        try:
            self._process = subprocess.Popen(
                command(__name__),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise MeasurementError(f"TVM's tracker cannot be started: {error}") from error
        try:
            self.address = f"127.0.0.1:{self._port()}"
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether boards and clients can reach it."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _port(self) -> int:
        assert self._process.stdout
        if readable(self._process.stdout, _START_LIMIT_S):
            line = self._process.stdout.readline()
            if line:
                return int(line)
        raise MeasurementError(
            "TVM's tracker does not start; it needs tornado: pip install '.[tvm]' in a clone of netadapt"
        )


def main() -> None:
    """Run the tracker; prints its port."""
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    from tvm.rpc.tracker import TrackerServerHandler

    threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    handler = TrackerServerHandler(listener, stop_key="")
    print(listener.getsockname()[1], flush=True)
    handler.run()


def _end_with_parent() -> None:
    # Standard input closes when the parent ends, however it ends.
    sys.stdin.buffer.read()
    os._exit(0)
