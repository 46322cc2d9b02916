"""The IDX files of the MNIST family (gzip): http://yann.lecun.com/exdb/mnist, section "file formats"."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import DataError

_UNSIGNED_BYTE = 0x08


def unpack(path: Path) -> bytes:
    """Return the content of a gzip file.

    Raises:
        DataError: the file is missing, truncated or not gzip.

    """
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as gzip ({error}); fetch the data again") from error


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes with ``dimensions`` axes.

    Raises:
        DataError: the file is missing, not gzip, not IDX of this kind, or shorter or longer than its header says.

    """
    content = unpack(path)
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    if len(content) < header or content[:4] != magic:
        raise DataError(
            f"{path}: starts with {content[:4].hex()!r}, expected {magic.hex()!r}; not the IDX file it should be"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = math.prod(shape)
    if len(content) - header != expected:
        raise DataError(
            f"{path}: {len(content) - header} bytes of data, its header says {expected}; fetch the data again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
