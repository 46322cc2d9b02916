"""The beginning of a session of TVM's RPC: this side says whom it wants, a server takes or refuses it."""

from __future__ import annotations

import socket
import struct

from netadapt.errors import DeviceBusy, DeviceError, DeviceLost
from netadapt.measure.rpc.exchange import Deadline, received, sent
from netadapt.measure.rpc.tracker import Board

_MAGIC = 0xFF271
#: A server's answers.
_TAKEN, _SERVES_ANOTHER, _OTHER_KEY = _MAGIC, _MAGIC + 1, _MAGIC + 2
_LONGEST_KEY = 4096


class KeyRefused(DeviceError):  # noqa: N818 - a state, not a mistake
    """A board is there but goes by another key."""


def connected(board: Board, session_limit_s: float, limit_s: float) -> socket.socket:
    """A connection to a board whose server has taken this client.

    Args:
        board: its address and the key to say.
        session_limit_s: after which the server is to end the session.
        limit_s: how long to wait for the server's answer, in all.

    Raises:
        DeviceLost: nothing answers in time, or not as a server of TVM's RPC does.
        DeviceBusy: it serves another client.
        KeyRefused: it goes by another key.

    """
    deadline = Deadline(limit_s)
    address = f"{board.host}:{board.port}"
    try:
        connection = socket.create_connection((board.host, board.port), timeout=limit_s)
    # The latter: what is no name of a host.
    except (OSError, ValueError) as error:
        why = f"nothing answers within {limit_s:g} s" if isinstance(error, TimeoutError) else str(error)
        raise DeviceLost(f"cannot connect to a board at {address}: {why}; see that its server runs") from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = f"client:{board.match_key} -timeout={session_limit_s}".encode()
        sent(connection, struct.pack("<ii", _MAGIC, len(key)) + key, deadline)
        _require_taken(connection, address, deadline)
    except BaseException as error:
        connection.close()
        if isinstance(error, TimeoutError):
            raise DeviceLost(silence(limit_s)) from error
        if isinstance(error, OSError):
            raise DeviceLost(f"cannot connect to a board at {address}: {error}; see that its server runs") from error
        raise
    connection.settimeout(None)
    return connection


def silence(limit_s: float) -> str:
    """Return the error for a board that does not answer."""
    return (
        f"the board takes a connection but does not answer within {limit_s:g} s: it is stopped, out of reach, or a"
        " server of TVM's that serves another client"
    )


def _require_taken(connection: socket.socket, address: str, deadline: Deadline) -> None:
    code = struct.unpack("<i", received(connection, 4, deadline))[0]
    if code == _SERVES_ANOTHER:
        raise DeviceBusy(f"the board at {address} serves another client")
    if code == _OTHER_KEY:
        raise KeyRefused(f"the board at {address} does not take the key")
    if code != _TAKEN:
        raise DeviceLost(f"what answers at {address} is not a server of TVM's RPC")
    length = struct.unpack("<i", received(connection, 4, deadline))[0]
    if not 0 <= length <= _LONGEST_KEY:
        raise DeviceLost(f"what answers at {address} is not a server of TVM's RPC: it has a key of {length} bytes")
    received(connection, length, deadline)
