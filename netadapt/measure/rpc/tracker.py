"""TVM's tracker: knows servers by their key and gives each of them to one client at a time.

This side of its protocol is a few lines of JSON; speaking it here gives every question a time limit, which TVM's own
client does not have.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netadapt.errors import DeviceBusy, DeviceLost

_MAGIC = 0x2F271
_REQUEST = 4
_SUMMARY = 6
_SUCCESS = 0
_MOST_BYTES = 1 << 20
#: A server that loses its tracker is back within two seconds.
_POLL_S = 0.25
#: How often a client that waits looks whether there is still a server with its key.
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Board:
    """A server that a tracker has given to this client, under a key that is good for one connection."""

    host: str
    port: int
    match_key: str


class Tracker:
    """A tracker at HOST:PORT; each question is a connection of its own, answered within `limit_s`."""

    def __init__(self, address: str, limit_s: float) -> None:
        self.address = address
        self._limit_s = limit_s

    def servers(self) -> list[tuple[str, tuple[str, int]]]:
        """Key and address of each server, in use or not.

        Raises:
            DeviceLost: the tracker does not answer.

        """
        with self._connection() as connection:
            summary = self._ask(connection, [_SUMMARY])
        return [(info["key"].partition(":")[2], tuple(info["addr"])) for info in summary["server_info"]]

    def acquire(self, key: str, busy_limit_s: float, on_wait: Callable[[], None] = lambda: None) -> Board:
        """Wait for a free server. The tracker answers clients in the order in which they asked.

        Args:
            key: what the servers call themselves.
            busy_limit_s: how long to wait for one.
            on_wait: called when none is free at once.

        Raises:
            DeviceLost: the tracker does not answer, or does not know the key.
            DeviceBusy: none was free in time.

        """
        self._await_key(key)
        deadline = time.monotonic() + busy_limit_s
        with self._connection() as connection:
            self._send(connection, [_REQUEST, key, "", 1])
            while not _readable(connection, min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
                on_wait()
                # It may be that nobody is left to wait for.
                self._require_key(key)
                if time.monotonic() >= deadline:
                    raise DeviceBusy(
                        f"every board with key {key!r} at the tracker {self.address} was in use for {busy_limit_s:g} s"
                    )
            host, port, match_key = self._receive(connection)
        return Board(host, int(port), match_key)

    def _await_key(self, key: str) -> None:
        deadline = time.monotonic() + self._limit_s
        while True:
            try:
                self._require_key(key)
            except DeviceLost:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _require_key(self, key: str) -> None:
        known = sorted({name for name, _ in self.servers()})
        if key not in known:
            raise DeviceLost(
                f"the tracker {self.address} knows no board with key {key!r}; it knows"
                f" {', '.join(map(repr, known)) or 'no board at all'}"
            )

    def _connection(self) -> socket.socket:
        try:
            connection = socket.create_connection(host_and_port(self.address), timeout=self._limit_s)
        except OSError as error:
            raise self._lost(error) from error
        try:
            connection.sendall(struct.pack("<i", _MAGIC))
            if struct.unpack("<i", _received(connection, 4))[0] != _MAGIC:
                raise DeviceLost(f"{self.address} is not a tracker of TVM's")
        except OSError as error:
            connection.close()
            raise self._lost(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, connection: socket.socket, question: list[Any]) -> Any:
        self._send(connection, question)
        return self._receive(connection)

    def _send(self, connection: socket.socket, question: list[Any]) -> None:
        text = json.dumps(question).encode()
        try:
            connection.sendall(struct.pack("<i", len(text)) + text)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, connection: socket.socket) -> Any:
        try:
            length = struct.unpack("<i", _received(connection, 4))[0]
            if not 0 < length <= _MOST_BYTES:
                raise DeviceLost(f"the tracker {self.address} gave a message of {length} bytes")
            code, answer = json.loads(_received(connection, length))
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        if code != _SUCCESS:
            raise DeviceLost(f"the tracker {self.address} refused a question with code {code}")
        return answer

    def _lost(self, error: Exception) -> DeviceLost:
        why = f"did not answer within {self._limit_s:g} s" if isinstance(error, TimeoutError) else f"is lost: {error}"
        return DeviceLost(f"the tracker {self.address} {why}; see that it runs and can be reached")


def host_and_port(address: str) -> tuple[str, int]:
    """Take HOST:PORT or [HOST]:PORT apart."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _readable(connection: socket.socket, limit_s: float) -> bool:
    return bool(select.select([connection], [], [], limit_s)[0])


def _received(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionResetError("it closed the connection")
        parts += part
    return parts
