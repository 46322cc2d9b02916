"""What all stages of the set-up share: folders that are there wholly or not at all, and commands that tell failures."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from netadapt.errors import SetupError

#: What an installation takes while it is made; afterwards about half.
NEEDED_BYTES = 400_000_000

_LAST_LINES = 6
_FULL = os.strerror(errno.ENOSPC)


def complete_folder(folder: Path, make: Callable[[Path], None]) -> bool:
    """Make a folder unless it is there, by `make` in a scratch folder that is renamed; tells whether it was made.

    A kill leaves the scratch folder, which `remove_leftovers` finds by its name.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        make(scratch)
        scratch.rename(folder)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, OSError) and folder.is_dir():
            # Somebody else was faster.
            return False
        raise
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed set-ups left below a folder. Only for the one that holds the folder's lock."""
    for pattern in (".*.partial", "*/.*.partial"):
        for leftover in folder.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


def run(
    command: Sequence[str | Path],
    purpose: str,
    timeout_s: float = 600,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run a command, in a folder, and return what it said on standard output.

    Raises:
        SetupError: it cannot be started, takes too long or fails; with its last lines.
        OSError: the disk is full.

    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, **(environment or {}), "LC_ALL": "C"},
        )
    except OSError as error:
        raise SetupError(f"{purpose}: {words[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{purpose}: {words[0]} was stopped after {timeout_s:.0f} s") from error
    if done.returncode:
        said = last_lines(done.stdout + done.stderr)
        if _FULL in said:
            raise OSError(errno.ENOSPC, _FULL)
        raise SetupError(f"{purpose}: {Path(words[0]).name} failed with status {done.returncode}:\n{said}")
    return done.stdout


def last_lines(text: str) -> str:
    """The last lines of what a command said, without those that say nothing."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-_LAST_LINES:])


@contextmanager
def disk_faults_told(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the cache folder into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"the disk of {folder} is full: {_free(folder) / 1e6:,.0f} MB are free there, the simulator needs "
                f"about {NEEDED_BYTES / 1e6:,.0f} MB; make room and run the set-up again, or set XDG_CACHE_HOME to a "
                "folder on another disk"
            ) from error
        raise SetupError(
            f"cannot write to the cache folder {folder}: {error.strerror or error}; set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from error


def _free(folder: Path) -> int:
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free
