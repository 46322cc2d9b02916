"""Write loops and stores of TVM's TIR one after another, as a kernel is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.tirx import ForKind
from tvm_ffi import structural_map

#: An index: a number or an expression of loop variables.
Index = Any
_INDEX_TYPE = "int64"


class Code:
    """Statements under construction; loops are context managers."""

    def __init__(self) -> None:
        self._open: list[list[tirx.Stmt]] = [[]]

    @property
    def body(self) -> tirx.Stmt:
        """All that was written."""
        (statements,) = self._open
        return _sequence(statements)

    def registers(self, shape: Sequence[int]) -> tirx.Buffer:
        """Numbers that are only reached by constant indices, and so can be in registers."""
        buffer = tirx.decl_buffer(tuple(shape), "float32", "registers", scope="local")
        self._open[-1].append(tirx.AllocBuffer(buffer, {"disable_lower_builtin": tirx.IntImm("bool", 1)}))
        return buffer

    def keep(self, buffer: tirx.Buffer) -> None:
        """Have memory for a buffer while the kernel runs."""
        self._open[-1].append(tirx.AllocBuffer(buffer))

    def store(self, buffer: tirx.Buffer, indices: Sequence[Index], value: Any) -> None:
        """Write one element, or a vector where the last index is one (see `lanes`)."""
        self._open[-1].append(tirx.BufferStore(buffer, value, list(indices)))

    @contextmanager
    def loop(self, name: str, extent: Index, kind: ForKind = ForKind.SERIAL) -> Iterator[Index]:
        """Repeat what is written inside; gives the number of the turn, which is just 0 if there is but one."""
        if isinstance(extent, int) and extent == 1:
            yield 0
            return
        var = tirx.Var(name, _INDEX_TYPE)
        self._open.append([])
        yield var
        inside = self._open.pop()
        if inside:
            first = tirx.const(0, _INDEX_TYPE)
            self._open[-1].append(tirx.For(var, first, _index(extent), kind, _sequence(inside)))

    def blocks(self, name: str, total: int, size: int) -> Iterator[tuple[Index, int]]:
        """Loop over `total` in blocks of `size`, the last one of what remains; gives the start and length of each."""
        for start, count, length in pieces(total, size):
            with self.loop(name, count) as turn:
                yield start + turn * length, length

    @contextmanager
    def vector(self, extent: int) -> Iterator[Index]:
        """Do what is written inside for `extent` neighbours at once."""
        with self.loop("lane", extent, ForKind.VECTORIZED) as lane:
            yield lane


def load(buffer: tirx.Buffer, indices: Sequence[Index]) -> Any:
    """Read one element, or a vector where the last index is one."""
    return tirx.BufferLoad(buffer, list(indices))


def lanes(start: Index, count: int) -> Any:
    """The indices of `count` neighbours; of one it is just its index, as TVM has no vectors of one."""
    return _index(start) if count == 1 else tirx.Ramp(_index(start), tirx.const(1, _INDEX_TYPE), count)


def splat(value: Any, count: int) -> Any:
    """A vector of `count` times the same."""
    return tirx.Broadcast(value, count)


def substituted(expression: Any, values: Mapping[tirx.Var, Any]) -> Any:
    """The expression with variables replaced."""
    return structural_map(expression, (tirx.Var, lambda var: _index(values.get(var, var))))


def pieces(total: int, size: int) -> list[tuple[int, int, int]]:
    """Cut `total` into pieces of `size` and what remains: (start, number of equal pieces, their size)."""
    whole, rest = divmod(total, size)
    cut = [(0, whole, size), (whole * size, 1, rest)]
    return [piece for piece in cut if piece[1] and piece[2]]


def even(total: int, most: int) -> int:
    """The size of pieces, at most `most`, of which the last one is least smaller than the others."""
    return -(-total // -(-total // most))


def _index(value: Index) -> Any:
    return tirx.const(value, _INDEX_TYPE) if isinstance(value, int) else value


def _sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
