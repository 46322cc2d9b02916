"""Write files so that they are there wholly or not at all."""

from __future__ import annotations

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
