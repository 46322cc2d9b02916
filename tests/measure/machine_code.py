"""AArch64 programs in machine code, so that tests of the simulator need no compiler for it.

A function named after an instruction gives its word, encoded as Arm's manual says (Arm DDI 0487, part C6 and C7).
Registers are numbers; general ones are 64 bits wide. A program is a list of words, branches, lists of these, and
labels, which are strings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Where programs lie, and the memory after them, which is zero.
CODE, DATA = 0x400000, 0x1000000
ZERO = 31


@dataclass(frozen=True)
class Branch:
    """A branch to a label; `distance`, in words, takes `bits` bits of the word from bit `low` on."""

    word: int
    label: str
    bits: int
    low: int


Item = int | str | Branch | Sequence["Item"]


# ---- General registers


def _three(opcode, d, n, m):
    return opcode | m << 16 | n << 5 | d


def add(d, n, m):
    return _three(0x8B000000, d, n, m)


def adds(d, n, m):
    return _three(0xAB000000, d, n, m)


def sub(d, n, m):
    return _three(0xCB000000, d, n, m)


def and_(d, n, m):
    return _three(0x8A000000, d, n, m)


def eor(d, n, m):
    return _three(0xCA000000, d, n, m)


def madd(d, n, m, a):
    return _three(0x9B000000, d, n, m) | a << 10


def mul(d, n, m):
    return madd(d, n, m, ZERO)


def udiv(d, n, m):
    return _three(0x9AC00800, d, n, m)


def _immediate(opcode, d, n, immediate):
    assert 0 <= immediate < 1 << 12
    return opcode | immediate << 10 | n << 5 | d


def add_imm(d, n, immediate):
    return _immediate(0x91000000, d, n, immediate)


def sub_imm(d, n, immediate):
    return _immediate(0xD1000000, d, n, immediate)


def subs_imm(d, n, immediate):
    return _immediate(0xF1000000, d, n, immediate)


def lsr_imm(d, n, shift):
    return 0xD340FC00 | shift << 16 | n << 5 | d


def lsl_imm(d, n, shift):
    return 0xD3400000 | (-shift % 64) << 16 | (63 - shift) << 10 | n << 5 | d


def mov(d, value):
    """The instructions (movz, movk) that set a register to a number."""
    parts = [(place, value >> 16 * place & 0xFFFF) for place in range(4)]
    words = [place << 21 | part << 5 | d for place, part in parts if part] or [d]
    return [(0xF2800000 if later else 0xD2800000) | word for later, word in enumerate(words)]


# ---- Memory


def _scaled(opcode, t, n, offset, size):
    assert offset % size == 0
    assert 0 <= offset < size << 12
    return opcode | offset // size << 10 | n << 5 | t


def ldr(t, n, offset=0):
    return _scaled(0xF9400000, t, n, offset, 8)


def str_(t, n, offset=0):
    return _scaled(0xF9000000, t, n, offset, 8)


def ldr_q(t, n, offset=0):
    return _scaled(0x3DC00000, t, n, offset, 16)


def str_q(t, n, offset=0):
    return _scaled(0x3D800000, t, n, offset, 16)


def _unscaled(opcode, t, n, offset):
    assert -256 <= offset < 256
    return opcode | (offset & 0x1FF) << 12 | n << 5 | t


def ldur_q(t, n, offset):
    return _unscaled(0x3CC00000, t, n, offset)


def ldr_post(t, n, step):
    return _unscaled(0xF8400400, t, n, step)


def str_post(t, n, step):
    return _unscaled(0xF8000400, t, n, step)


def ldr_q_post(t, n, step):
    return _unscaled(0x3CC00400, t, n, step)


def str_q_post(t, n, step):
    return _unscaled(0x3C800400, t, n, step)


def ldr_index(t, n, m):
    return _three(0xF8606800, t, n, m)


def str_index(t, n, m):
    return _three(0xF8206800, t, n, m)


def ldr_q_index(t, n, m):
    return _three(0x3CE06800, t, n, m)


def str_q_index(t, n, m):
    return _three(0x3CA06800, t, n, m)


def ldp_q(t, u, n, offset=0):
    return 0xAD400000 | (offset // 16 & 0x7F) << 15 | u << 10 | n << 5 | t


def stp_q(t, u, n, offset=0):
    return 0xAD000000 | (offset // 16 & 0x7F) << 15 | u << 10 | n << 5 | t


# ---- Vector registers, as four 32-bit elements


def fadd(d, n, m):
    return _three(0x4E20D400, d, n, m)


def fmul(d, n, m):
    return _three(0x6E20DC00, d, n, m)


def fdiv(d, n, m):
    return _three(0x6E20FC00, d, n, m)


def fmla(d, n, m):
    return _three(0x4E20CC00, d, n, m)


def fmla_element(d, n, m, element):
    return _three(0x4F801000, d, n, m) | (element & 1) << 21 | element >> 1 << 11


# ---- Branches and system calls


def b(label):
    return Branch(0x14000000, label, 26, 0)


def b_ne(label):
    return Branch(0x54000001, label, 19, 5)


def cbz(t, label):
    return Branch(0xB4000000 | t, label, 19, 5)


def cbnz(t, label):
    return Branch(0xB5000000 | t, label, 19, 5)


def tbz(t, bit, label):
    return Branch(0x36000000 | bit >> 5 << 31 | (bit & 31) << 19 | t, label, 14, 5)


def svc():
    return 0xD4000001


def system_call(number, *arguments):
    """A system call with constant arguments; the result is in x0."""
    return [*(mov(place, value) for place, value in enumerate(arguments)), mov(8, number), svc()]


def leave(status=0):
    """End the program."""
    return system_call(93, status)


# ---- Programs


def assemble(program: Sequence[Item]) -> bytes:
    """The words of a program, with its branches resolved."""
    labels: dict[str, int] = {}
    words: list[int | Branch] = []
    for item in _flat(program):
        if isinstance(item, str):
            assert item not in labels, f"two labels {item}"
            labels[item] = len(words)
        else:
            words.append(item)
    return b"".join(struct.pack("<I", _resolved(word, place, labels)) for place, word in enumerate(words))


def write_program(path: Path, program: Sequence[Item], data_bytes: int = 1 << 16) -> Path:
    """Write a static executable: one segment that may be read, written and executed, with memory up to DATA + bytes."""
    headers = 64 + 56
    code = assemble(program)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    file_header = struct.pack(
        "<16sHHIQQQIHHHHHH", identification, 2, 183, 1, CODE + headers, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    length = headers + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, CODE, CODE, length, DATA - CODE + data_bytes, 4096)
    path.write_bytes(file_header + segment + code)
    path.chmod(0o755)
    return path


def _flat(items: Sequence[Item]) -> Iterator[int | str | Branch]:
    for item in items:
        if isinstance(item, int | str | Branch):
            yield item
        else:
            yield from _flat(item)


def _resolved(word: int | Branch, place: int, labels: dict[str, int]) -> int:
    if isinstance(word, int):
        return word
    distance = labels[word.label] - place
    assert -(1 << word.bits - 1) <= distance < 1 << word.bits - 1, f"{word.label} is too far away"
    return word.word | (distance & (1 << word.bits) - 1) << word.low
