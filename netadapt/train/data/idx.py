"""The IDX files of the MNIST family (gzip): http://yann.lecun.com/exdb/mnist, section "file formats"."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import DataError

_UNSIGNED_BYTE = 0x08
_MOST_BYTES = 1 << 28
"""Five times what the largest file of Fashion-MNIST unpacks to: a small file can unpack to any size."""


def unpack(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Return the content of a gzip file, of which no more than ``most`` bytes are unpacked.

    Raises:
        DataError: the file is missing, truncated or not gzip, or has more content.

    """
    with _unpacking(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path}: unpacks to more than {most:,} bytes; fetch the data again")
    return content


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes with ``dimensions`` axes, of 256 MiB at most.

    Raises:
        DataError: the file is missing, not gzip, not IDX of this kind, too large, or shorter or longer than its header
            says.

    """
    magic = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    with _unpacking(path) as file:
        found = file.read(4)
        sizes = file.read(4 * dimensions)
        if found != magic or len(sizes) < 4 * dimensions:
            raise DataError(
                f"{path}: starts with {found.hex()!r}, expected {magic.hex()!r}; not the IDX file it should be"
            )
        shape = struct.unpack(f">{dimensions}I", sizes)
        expected = math.prod(shape)
        if expected > _MOST_BYTES:
            raise DataError(f"{path}: its header says {expected:,} bytes, at most {_MOST_BYTES:,} are read")
        content = file.read(expected + 1)
    if len(content) != expected:
        found_bytes = f"more than {expected}" if len(content) > expected else len(content)
        raise DataError(f"{path}: {found_bytes} bytes of data, its header says {expected}; fetch the data again")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


@contextmanager
def _unpacking(path: Path) -> Iterator[gzip.GzipFile]:
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for.
            raise DataError(f"{path}: not an ordinary file")
        with gzip.open(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as gzip ({error}); fetch the data again") from error
