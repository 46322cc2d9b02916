"""TVM's tracker: knows servers by their key and gives each of them to one client at a time.

This side of its protocol is a few lines of JSON; speaking it here gives every question a time limit, which TVM's own
client does not have.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from netadapt.errors import DeviceBusy, DeviceLost
from netadapt.measure.rpc.exchange import Deadline, received, received_json, sent
from netadapt.measure.waiting import readable

_MAGIC = 0x2F271
_REQUEST = 4
_SUMMARY = 6
_SUCCESS = 0
_MOST_BYTES = 1 << 20
#: A server that loses its tracker is back within two seconds.
_POLL_S = 0.25
#: How often a client that waits looks whether there is still a server with its key.
_LOOK_S = 0.5
#: How many of the keys that a tracker knows a message names.
_MOST_NAMED = 10
#: Of a host or a key.
_LONGEST_TEXT = 1000


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
        with self._connection() as (connection, deadline):
            summary = self._ask(connection, [_SUMMARY], deadline)
        infos = summary.get("server_info") if isinstance(summary, dict) else None
        if not isinstance(infos, list):
            raise self._nonsense(summary)
        return [server for server in map(_server, infos) if server]

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
        with self._connection() as (connection, handshake):
            self._send(connection, [_REQUEST, key, "", 1], handshake)
            while not readable(connection, min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
                on_wait()
                # It may be that nobody is left to wait for.
                self._require_key(key)
                if time.monotonic() >= deadline:
                    raise DeviceBusy(
                        f"every board with key {key!r} at the tracker {self.address} was in use for {busy_limit_s:g} s"
                    )
            answer = self._receive(connection, Deadline(self._limit_s))
        try:
            host, port, match_key = answer
            return Board(*_address([host, port]), _text(match_key))
        except (TypeError, ValueError) as error:
            raise self._nonsense(answer) from error

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
                f" {', '.join(map(repr, known[:_MOST_NAMED])) or 'no board at all'}"
                f"{' and others' if len(known) > _MOST_NAMED else ''}"
            )

    @contextmanager
    def _connection(self) -> Iterator[tuple[socket.socket, Deadline]]:
        """A connection that has shown that a tracker is there, and the time left for the first question."""
        deadline = Deadline(self._limit_s)
        try:
            connection = socket.create_connection(host_and_port(self.address), timeout=self._limit_s)
        # The latter: no name of a host, or no port.
        except (OSError, ValueError, OverflowError) as error:
            raise self._lost(error) from error
        with connection:
            try:
                sent(connection, struct.pack("<i", _MAGIC), deadline)
                magic = received(connection, 4, deadline)
            except OSError as error:
                raise self._lost(error) from error
            if magic != struct.pack("<i", _MAGIC):
                raise DeviceLost(f"{self.address} is not a tracker of TVM's")
            yield connection, deadline

    def _ask(self, connection: socket.socket, question: list[Any], deadline: Deadline) -> Any:
        self._send(connection, question, deadline)
        return self._receive(connection, deadline)

    def _send(self, connection: socket.socket, question: list[Any], deadline: Deadline) -> None:
        text = json.dumps(question).encode()
        try:
            sent(connection, struct.pack("<i", len(text)) + text, deadline)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, connection: socket.socket, deadline: Deadline) -> Any:
        try:
            message = received_json(connection, _MOST_BYTES, deadline)
        except OSError as error:
            raise self._lost(error) from error
        except ValueError as error:
            raise DeviceLost(f"the tracker {self.address} does not answer as one of TVM's does: {error}") from error
        if not isinstance(message, list) or len(message) != 2:
            raise self._nonsense(message)
        code, answer = message
        if code != _SUCCESS:
            raise DeviceLost(f"the tracker {self.address} refused a question with code {str(code)[:20]!r}")
        return answer

    def _lost(self, error: Exception) -> DeviceLost:
        why = f"did not answer within {self._limit_s:g} s" if isinstance(error, TimeoutError) else f"is lost: {error}"
        return DeviceLost(f"the tracker {self.address} {why}; see that it runs and can be reached")

    def _nonsense(self, message: Any) -> DeviceLost:
        return DeviceLost(
            f"the tracker {self.address} does not answer as one of TVM's does, but: {json.dumps(message)[:60]}"
        )


def host_and_port(address: str) -> tuple[str, int]:
    """Take HOST:PORT or [HOST]:PORT apart."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _server(info: Any) -> tuple[str, tuple[str, int]] | None:
    """Key and address of a server in a tracker's summary; None where it has registered with something else."""
    try:
        return _text(info["key"]).partition(":")[2], _address(info["addr"])
    except (TypeError, ValueError, LookupError):
        return None


def _address(pair: Any) -> tuple[str, int]:
    host, port = pair
    # TVM's Android app gives it as a text.
    number = int(port) if isinstance(port, int | str) else 0
    if not 0 < number < 1 << 16:
        raise ValueError("not a port")
    return _text(host), number


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise TypeError("not a short text")
    return value
