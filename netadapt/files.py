"""Write files so that they are there wholly or not at all, and read them whatever they are."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and the folders it lies in, whatever happens meanwhile: an older file is replaced or kept.

    Raises:
        OSError: it cannot be written (a full disk, no permission); no part of it is left behind.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Process and thread make its name unique among those that write the same file at the same time.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_at_most(path: Path, most: int) -> bytes:
    """Return the content of an ordinary file of no more than `most` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is no ordinary file: a pipe would be waited for, a device can be
            endless.

    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise OSError(errno.EINVAL, "not an ordinary file", str(path))
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except ValueError as error:
        # A zero byte in its name.
        raise OSError(errno.EINVAL, "not the name of a file", str(path)) from error
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return content
