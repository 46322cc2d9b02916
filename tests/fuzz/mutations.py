"""Ways to damage input: bytes of any file, texts such as TOML, and the values that JSON holds.

All take a random generator and change nothing of what they are given.
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

HOSTILE_INTEGERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1)
#: JSON and TOML can hold more than SQLite, numpy and C.
HUGE_INTEGERS = (*HOSTILE_INTEGERS, 2**63, -(2**63) - 1, 2**64, 10**400)
HOSTILE_TEXTS = (
    "",
    " ",
    "\0",
    "\b",
    "\x1b[2J",
    "\ud800",
    "\u202e",
    "🦥",
    "../../etc/passwd",
    "/",
    "-",
    "NaN",
    "1e999",
    "[red]",
    "[/]",
    "%s{0}",
    "<script>",
    "x" * 100_000,
)
HOSTILE_VALUES = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"": None},
    0.0,
    -0.0,
    1.5,
    -1e308,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    *HUGE_INTEGERS,
    *HOSTILE_TEXTS,
)


def mutated_bytes(content: bytes, generator: random.Random, most: int = 4) -> bytes:
    """Bytes with one to `most` changes: bits, numbers, and pieces cut out, doubled, moved or truncated."""
    damaged = bytearray(content)
    for _ in range(generator.randint(1, most)):
        if not damaged:
            return b""
        generator.choice(_BYTE_MUTATIONS)(damaged, generator)
    return bytes(damaged)


def mutated_text(text: str, generator: random.Random, most: int = 3) -> str:
    """A text with lines or words doubled, dropped, moved, or replaced by hostile ones."""
    lines = text.splitlines() or [""]
    for _ in range(generator.randint(1, most)):
        place = generator.randrange(len(lines))
        match generator.randrange(6):
            case 0:
                del lines[place]
            case 1:
                lines.insert(generator.randrange(len(lines)), lines[place])
            case 2:
                lines[place] = lines[place][: generator.randrange(len(lines[place]) + 1)]
            case 3:
                lines[place] = _with_other_word(lines[place], generator)
            case 4:
                lines[place] = generator.choice(_HOSTILE_LINES)
            case _:
                lines[place] = generator.choice(_HOSTILE_LINES).join(lines[place].partition("=")[::2])
        lines = lines or [""]
    return "\n".join(lines) + "\n"


def mutated_value(value: Any, generator: random.Random, most: int = 3) -> Any:
    """A value of dicts, lists, texts and numbers with one to `most` parts replaced, removed, added or swapped."""
    root = [copy.deepcopy(value)]
    for _ in range(generator.randint(1, most)):
        holder, key = _random_place(root, generator)
        match generator.randrange(8):
            case 0 if holder is not root:
                del holder[key]
            case 1 if isinstance(holder[key], dict):
                holder[key][generator.choice(("x", *HOSTILE_TEXTS))] = hostile_value(generator)
            case 2 if isinstance(holder[key], list):
                holder[key].append(copy.deepcopy(generator.choice(holder[key])) if holder[key] else None)
            case 3 if isinstance(holder[key], list):
                generator.shuffle(holder[key])
            case 4:
                other, name = _random_place(root, generator)
                holder[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(holder[key])
            case 5 if isinstance(holder[key], int | float):
                holder[key] = generator.choice((-holder[key], holder[key] + 1, holder[key] * 1000, str(holder[key])))
            case 6:
                holder[key] = generator.choice(([holder[key]], {"value": holder[key]}, str(holder[key])[:1000]))
            case _:
                holder[key] = hostile_value(generator)
    return root[0]


def hostile_value(generator: random.Random) -> Any:
    """One of the values that readers forget, now and then a deep one."""
    if generator.random() < 0.02:
        return nested(generator.choice((20, 100)))
    return copy.deepcopy(generator.choice(HOSTILE_VALUES))


def nested(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# ---- Bytes


def _flip_bit(damaged: bytearray, generator: random.Random) -> None:
    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)


def _put_byte(damaged: bytearray, generator: random.Random) -> None:
    damaged[generator.randrange(len(damaged))] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))


def _put_number(damaged: bytearray, generator: random.Random) -> None:
    size, form = generator.choice(((2, "H"), (4, "I"), (8, "Q")))
    number = generator.choice(HOSTILE_INTEGERS) % 256**size
    place = generator.randrange(len(damaged))
    damaged[place : place + size] = struct.pack(generator.choice("<>") + form, number)


def _add_to_number(damaged: bytearray, generator: random.Random) -> None:
    place = generator.randrange(len(damaged))
    damaged[place] = (damaged[place] + generator.randint(-3, 3)) % 256


def _cut_out(damaged: bytearray, generator: random.Random) -> None:
    start, end = _piece(damaged, generator)
    del damaged[start:end]


def _double(damaged: bytearray, generator: random.Random) -> None:
    start, end = _piece(damaged, generator)
    damaged[start:start] = damaged[start:end] * generator.choice((1, 1, 2, 50))


def _move(damaged: bytearray, generator: random.Random) -> None:
    start, end = _piece(damaged, generator)
    piece = damaged[start:end]
    del damaged[start:end]
    place = generator.randrange(len(damaged) + 1)
    damaged[place:place] = piece


def _fill(damaged: bytearray, generator: random.Random) -> None:
    start, end = _piece(damaged, generator)
    damaged[start:end] = bytes([generator.choice((0, 0xFF, 0x20, 0x5B))]) * (end - start)


def _scramble(damaged: bytearray, generator: random.Random) -> None:
    start, end = _piece(damaged, generator)
    damaged[start:end] = generator.randbytes(end - start)


def _truncate(damaged: bytearray, generator: random.Random) -> None:
    del damaged[generator.randrange(len(damaged)) :]


def _append(damaged: bytearray, generator: random.Random) -> None:
    damaged += generator.randbytes(generator.choice((1, 16, 5000)))


_BYTE_MUTATIONS: Sequence[Callable[[bytearray, random.Random], None]] = (
    _flip_bit,
    _flip_bit,
    _put_byte,
    _put_byte,
    _put_number,
    _put_number,
    _add_to_number,
    _cut_out,
    _double,
    _move,
    _fill,
    _scramble,
    _truncate,
    _append,
)


def _piece(damaged: bytearray, generator: random.Random) -> tuple[int, int]:
    """A range, mostly a short one."""
    start = generator.randrange(len(damaged))
    length = generator.choice((1, 2, 4, 16, 64, 1024, len(damaged)))
    return start, min(len(damaged), start + generator.randint(1, length))


# ---- Texts and values

_HOSTILE_LINES = (
    "[" * 500,
    "x = " + "[" * 500 + "]" * 500,
    "x = " + "{a=" * 400,
    "x = " + "9" * 4301,
    "x = 1e999",
    "x = nan",
    "x = -inf",
    "x = 0x" + "f" * 400,
    ".".join("a" * 2000) + " = 1",
    "[" + ".".join("a" * 2000) + "]",
    "x = 9999-99-99",
    "x = 1979-05-27T07:32:00Z",
    'x = "\\ud800"',
    'x = "\\u0000"',
    '"" = ""',
    "\0",
    "\x1b[2J",
    "🦥",
    "=",
    "]]",
    "}",
    '"""',
)
_HOSTILE_WORDS = ("-1", "0", "true", "[]", "{}", '""', "1.5", "nan", "9" * 30, '"\\u0008"', "'", "[[1]]", "")


def _with_other_word(line: str, generator: random.Random) -> str:
    words = line.split(" ")
    words[generator.randrange(len(words))] = generator.choice(_HOSTILE_WORDS)
    return " ".join(words)


def _random_place(root: list[Any], generator: random.Random) -> tuple[Any, Any]:
    """A container and a key or index in it, every level about as likely as the next."""
    holder: Any = root
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and generator.random() < 0.8:
        holder = holder[key]
        key = generator.choice(list(holder)) if isinstance(holder, dict) else generator.randrange(len(holder))
    return holder, key
