"""What a weight file says of itself. Needs no torch, so that a wrong file is refused at once."""

from __future__ import annotations

import json
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
        with safetensors.safe_open(path, framework="numpy") as file:
            facts: dict[str, object] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error
    return facts


def unreadable(path: Path, error: Exception) -> ModelError:
    """Return the error that says why a weight file cannot be read."""
    if not path.is_file():
        return ModelError(f"{path}: there is no such weight file")
    return ModelError(
        f"{path}: not a safetensors file ({error}); pickled weights (.pt, .pth) are never read, convert them once "
        "with safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'FILE.safetensors')"
    )
