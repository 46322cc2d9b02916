"""Connects TVM's client with boards by way of a process that lets through answers only; see relay_process.py."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
from typing import Any

from tvm import rpc

from netadapt.errors import MeasurementError
from netadapt.measure.rpc import relay_process
from netadapt.measure.rpc.exchange import Deadline, received

_START_LIMIT_S = 60.0


class Relay:
    """A process of `relay_process`, which ends with this one.

    Raises:
        MeasurementError: it does not start.

    """

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-S", relay_process.__file__, str(theirs.fileno())]
        try:
            with theirs:
                # It needs nothing of the environment.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, env={}, pass_fds=[theirs.fileno()], close_fds=True
                )
            self._port = int.from_bytes(received(self._channel, 2, Deadline(_START_LIMIT_S)), "little")
        except OSError as error:
            raise MeasurementError(f"cannot start the process that connects with boards: {error}") from error

    def session(self, connection: socket.socket) -> Any:
        """A session of TVM's RPC on a board.

        Args:
            connection: to the board, with TVM's handshake done. It is the relay's from now on.

        Raises:
            Exception: any of TVM's, where the board does not go on as a server does.

        """
        token = secrets.token_hex(relay_process.TOKEN_BYTES // 2)
        with connection:
            socket.send_fds(self._channel, [token.encode()], [connection.fileno()])
        return rpc.connect("127.0.0.1", self._port, token)

    def close(self) -> None:
        """End it, and the sessions with it."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.kill()
        self._process.wait()
