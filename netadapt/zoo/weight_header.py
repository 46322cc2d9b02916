"""Read the header of a weight file. Needs no torch, so that a wrong file is refused at once."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import safetensors

from netadapt.errors import ModelError

METADATA_KEY = "netadapt"
"""Key of a weight file's metadata; its value is one JSON text, as safetensors keeps no order of several keys."""


def read_facts(path: Path) -> dict[str, object]:
    """Return the metadata that `save_weights` wrote; empty for a safetensors file of another origin.

    Raises:
        ModelError: the file is missing or not safetensors.

    """
    try:
        require_file(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            facts: object = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error
    if not isinstance(facts, dict):
        raise ModelError(f"{path}: its metadata {METADATA_KEY!r} is not what netadapt writes; save the weights again")
    return facts


def require_file(path: Path) -> None:
    """Check that there is an ordinary file; a pipe would be waited for.

    Raises:
        OSError: there is none.

    """
    if not os.path.isfile(path):
        raise FileNotFoundError(errno.ENOENT, "not a file", str(path))


def unreadable(path: Path, error: Exception) -> ModelError:
    """Return the error that says why a weight file cannot be read."""
    if not os.path.isfile(path):  # unlike Path.is_file, whatever the name
        return ModelError(f"{path}: there is no such weight file")
    return ModelError(
        f"{path}: not a safetensors file ({error}); pickled weights (.pt, .pth) are never read, convert them once "
        "with safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'FILE.safetensors')"
    )
