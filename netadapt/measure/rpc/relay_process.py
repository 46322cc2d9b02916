"""The process between a worker and boards: a board may answer there, and nothing else.

TVM's RPC is spoken in both directions. A client that waits for an answer also does what the other side asks of it, such
as loading a library or calling whatever lies at an address. So a client of ours is never connected to a board: it talks
to this process, which passes on everything to the board, and from it only answers, none of which is very long.

`relay.Relay` starts it with the descriptor of a socket. Over that come a token and a connection to a board, on which
TVM's handshake is done; the client that shows the token is given that board. The process ends when the socket closes.
It has nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

#: Passes on what comes from one of two connections to the other, until that is closed: to the board, to the client.
Pump = Callable[[socket.socket, socket.socket], None]

#: Starts the text of the error that a client gets whose board sent something else than an answer.
CUT_OFF = "cut off by netadapt: "
TOKEN_BYTES = 32
#: Of one answer: an output of a network, for one.
MOST_BYTES = 1 << 30

_MAGIC = 0xFF271
#: TVM's numbers of packets: a value, an error, and the content of a tensor.
_ANSWERS = (4, 5, 8)
_EXCEPTION = 5
#: Type of a text in TVM's arguments.
_TEXT = 8
_CLIENT_LIMIT_S = 10.0
_HELLO_LIMIT_S = 1.0
_PART = 1 << 16


def main(descriptor: int) -> None:
    """Connect clients with boards until the socket closes."""
    channel = socket.socket(fileno=descriptor)
    listener = socket.create_server(("127.0.0.1", 0))
    channel.sendall(listener.getsockname()[1].to_bytes(2, "little"))
    while True:
        token, descriptors, _, _ = socket.recv_fds(channel, TOKEN_BYTES, 1)
        if not token:
            os._exit(0)
        board = socket.socket(fileno=descriptors[0])
        client = _client(listener, token)
        if client is None:
            board.close()
        else:
            _join(board, client)


def _client(listener: socket.socket, token: bytes) -> socket.socket | None:
    """The next client that shows the token; none if it does not come."""
    deadline = time.monotonic() + _CLIENT_LIMIT_S
    while (left_s := deadline - time.monotonic()) > 0:
        listener.settimeout(left_s)
        try:
            client = listener.accept()[0]
        except OSError:
            continue
        client.settimeout(_HELLO_LIMIT_S)
        expected = struct.pack("<ii", _MAGIC, len(b"client:" + token)) + b"client:" + token
        # Any user of this machine can connect.
        with contextlib.suppress(OSError, EOFError):
            if hmac.compare_digest(_exactly(client, len(expected)), expected):
                client.sendall(struct.pack("<ii", _MAGIC, 7) + b"server:")
                return client
        client.close()
    return None


def _join(board: socket.socket, client: socket.socket) -> None:
    for connection in (board, client):
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for pump in (_pass_on_questions, _pass_on_answers):
        threading.Thread(target=_until_closed, args=(pump, board, client), daemon=True).start()


def _until_closed(pump: Pump, board: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        pump(board, client)
    # The other thread is woken, too; what was sent still arrives.
    for connection in (board, client):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _pass_on_questions(board: socket.socket, client: socket.socket) -> None:
    while part := client.recv(_PART):
        board.sendall(part)


def _pass_on_answers(board: socket.socket, client: socket.socket) -> None:
    while True:
        head = _exactly(board, 12)
        length, kind = struct.unpack("<Qi", head)
        if kind not in _ANSWERS or not 4 <= length <= MOST_BYTES:
            client.sendall(_refusal(length, kind))
            return
        client.sendall(head)
        left = length - 4
        while left:
            part = board.recv(min(left, _PART))
            if not part:
                return
            client.sendall(part)
            left -= len(part)


def _refusal(length: int, kind: int) -> bytes:
    """The packet that lets the client's call fail."""
    why = f"a packet of {length} bytes" if kind in _ANSWERS else f"a packet of kind {kind}, which is no answer"
    text = (CUT_OFF + why).encode()
    return struct.pack("<QiiiQ", 20 + len(text), _EXCEPTION, 1, _TEXT, len(text)) + text


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    main(int(sys.argv[1]))
