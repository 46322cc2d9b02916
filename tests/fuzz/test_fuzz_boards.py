"""Damaged answers of trackers and boards."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
from pathlib import Path

from fuzzing import Fuzz
from mutations import mutated_bytes, mutated_text, mutated_value

from netadapt.errors import DeviceError
from netadapt.measure.rpc import relay_process
from netadapt.measure.rpc.answers import description_of
from netadapt.measure.rpc.blocks import BlockTimes
from netadapt.measure.rpc.handshake import connected
from netadapt.measure.rpc.tracker import Board, Tracker

SERVERS = [0, {"queue_info": {}, "server_info": [{"key": "server:pi", "addr": ["127.0.0.1", 9090]}]}]
GIVEN = [0, ["127.0.0.1", 9090, "pi:0.123"]]
DESCRIPTION = {
    "server": "netadapt-device",
    "protocol": 1,
    "tvm": "0.27.0",
    "onnxruntime": None,
    "python": "3.11.2",
    "machine": "Raspberry Pi 5 Model B",
    "os": "Linux 6.6.20",
    "cores": 4,
    "affinity": [0, 1, 2, 3],
    "previous": "SIGSEGV",
}
BLOCKS = {
    "blocks": [[1000, 990, 0], [1100, 700, 2]],
    "state": {"celsius": 41.5, "mhz": 1800.0, "max_mhz": None},
}
#: A value, an error and the content of a tensor, as packets of TVM's RPC have them.
ANSWERS = [(4, struct.pack("<iiq", 1, 1, 7)), (5, struct.pack("<iiQ", 1, 8, 3) + b"bad"), (8, bytes(range(64)))]
#: Long enough that only the listener's thread decides.
LIMIT_S = 5.0


def message(content: object) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<i", len(text)) + text


def damaged_json(good: object, generator: random.Random) -> str:
    """Other values in the same form, or another form."""
    if generator.random() < 0.5:
        return mutated_text(json.dumps(good), generator)
    return json.dumps(mutated_value(good, generator, most=1))


def answering(*answers: bytes) -> str:
    """The address of a server that gives each connection the next of some answers, whatever it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for answer in answers:
                connection = listener.accept()[0]
                with connection:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    # What came is read, or closing takes back what was sent.
                    while connection.recv(4096):
                        pass

    threading.Thread(target=serve, daemon=True).start()
    return "{}:{}".format(*listener.getsockname())


def test_answers_of_a_tracker(fuzz: Fuzz) -> None:
    magic = struct.pack("<i", 0x2F271)

    def read_damaged(generator: random.Random, _: Path) -> None:
        text = damaged_json(SERVERS, generator).encode("utf-8", "surrogatepass")
        damaged = magic + struct.pack("<i", len(text)) + text
        Tracker(answering(mutated_bytes(damaged, generator, 1)), LIMIT_S).servers()

    fuzz(read_damaged, quick=60, full=4000)


def test_a_board_that_a_tracker_gives(fuzz: Fuzz) -> None:
    magic = struct.pack("<i", 0x2F271)

    def read_damaged(generator: random.Random, _: Path) -> None:
        text = damaged_json(GIVEN, generator).encode("utf-8", "surrogatepass")
        damaged = magic + struct.pack("<i", len(text)) + text
        # The keys of boards are asked for first.
        Tracker(answering(magic + message(SERVERS), damaged), LIMIT_S).acquire("pi", LIMIT_S)

    fuzz(read_damaged, quick=60, full=4000)


def test_the_greeting_of_a_board(fuzz: Fuzz) -> None:
    greeting = struct.pack("<ii", 0xFF271, 9) + b"server:pi"

    def read_damaged(generator: random.Random, _: Path) -> None:
        host, _, port = answering(mutated_bytes(greeting, generator)).partition(":")
        connected(Board(host, int(port), "pi"), 10, LIMIT_S).close()

    fuzz(read_damaged, quick=60, full=4000)


def test_what_a_board_says_of_itself(fuzz: Fuzz) -> None:
    fuzz(lambda generator, _: description_of(damaged_json(DESCRIPTION, generator)), quick=200, full=10_000)


def test_times_of_blocks(fuzz: Fuzz) -> None:
    fuzz(lambda generator, _: BlockTimes.from_answer(damaged_json(BLOCKS, generator), 2), quick=200, full=10_000)


def test_only_answers_get_through(fuzz: Fuzz) -> None:
    """Whatever a board sends, the client hears whole headers of answers, or the word that the board was cut off."""
    packets = [struct.pack("<Qi", 4 + len(content), kind) + content for kind, content in ANSWERS]

    def pass_on_damaged(generator: random.Random, _: Path) -> None:
        heard = _passed_on(mutated_bytes(b"".join(packets), generator))
        while len(heard) >= 12:
            length, kind = struct.unpack("<Qi", heard[:12])
            assert kind in relay_process._ANSWERS
            assert 4 <= length <= relay_process.MOST_BYTES
            if relay_process.CUT_OFF.encode() in heard[12 : 8 + length]:
                raise DeviceError("cut off")
            heard = heard[8 + length :]

    fuzz(pass_on_damaged, quick=200, full=10_000)


def _passed_on(content: bytes) -> bytes:
    """Return what a client receives when a board sends something and goes away."""
    board, near_board = socket.socketpair()
    near_client, client = socket.socketpair()
    with board, near_board, near_client, client:
        board.sendall(content)
        board.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError):
            relay_process._pass_on_answers(near_board, near_client)
        near_client.shutdown(socket.SHUT_WR)
        heard = bytearray()
        while part := client.recv(1 << 16):
            heard += part
    return bytes(heard)
