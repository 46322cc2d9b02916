"""Keep what other code prints out of standard output, whether it is Python or not."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

_STDOUT, _STDERR = 1, 2


class Results(io.StringIO):
    """Yield the output of a command until it ends."""


@contextmanager
def only_results() -> Iterator[None]:
    """Let only what `write_result` is given reach standard output, when all is done; the rest goes to standard error.

    For a command whose output is a document that programs read.
    """
    results = Results()
    stdout = sys.stdout
    try:
        with _descriptor_at(_STDERR), redirect_stdout(_Aside(results)):
            yield
    finally:
        stdout.write(results.getvalue())
        stdout.flush()


def write_result(text: str) -> None:
    """Write to standard output, also within `only_results`."""
    stream = sys.stdout
    (stream.results if isinstance(stream, _Aside) else stream).write(text)


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Drop whatever is printed to standard output meanwhile."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        with _descriptor_at(nothing), redirect_stdout(io.StringIO()):
            yield
    finally:
        os.close(nothing)


class _Aside(io.TextIOBase):
    """Standard output that is standard error, beside which results are collected."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _descriptor_at(target: int) -> Iterator[None]:
    """Send what is written to the descriptor of standard output to another one."""
    _flush()
    try:
        kept = os.dup(_STDOUT)
        os.dup2(target, _STDOUT)
    except OSError:  # closed
        yield
        return
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _flush() -> None:
    """Write out what Python and C have kept back."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
