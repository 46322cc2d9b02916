"""Bytes over sockets, with one time limit for a whole exchange: a byte now and then does not renew it."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any


class Deadline:
    """The end of an exchange, `limit_s` from now."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s

    def left_s(self) -> float:
        """How long it is until then.

        Raises:
            TimeoutError: it is over.

        """
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


def received(connection: socket.socket, count: int, deadline: Deadline) -> bytes:
    """The next `count` bytes.

    Raises:
        OSError: the connection is closed or broken, or they did not come in time (TimeoutError).

    """
    parts = bytearray()
    while len(parts) < count:
        connection.settimeout(deadline.left_s())
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionResetError("it closed the connection")
        parts += part
    return bytes(parts)


def sent(connection: socket.socket, content: bytes, deadline: Deadline) -> None:
    """Send everything.

    Raises:
        OSError: as `received`.

    """
    connection.settimeout(deadline.left_s())
    connection.sendall(content)


def received_json(connection: socket.socket, most_bytes: int, deadline: Deadline) -> Any:
    """A message of TVM's tracker: its length, then JSON.

    Raises:
        OSError: as `received`.
        ValueError: it is longer than `most_bytes`, or not JSON.

    """
    length = struct.unpack("<i", received(connection, 4, deadline))[0]
    if not 0 < length <= most_bytes:
        raise ValueError(f"it gave a message of {length} bytes")
    text = received(connection, length, deadline)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it gave JSON that is nested too deeply") from None
