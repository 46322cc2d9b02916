"""Files that a command is told to write: what is there is replaced only if it is of the kind that the command writes.

Checked before the work, so that a mistyped name costs neither a file nor the time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netadapt.errors import OutputError

#: Of a file that is read to see whether it is a report or a table.
_MOST_BYTES = 256 << 20
_REPORT_MARKS = ('<meta name="generator" content="netadapt">', 'aria-label="Where these numbers come from"')


@dataclass(frozen=True)
class Kind:
    """A kind of files: what it is called, and whether a file is one of it."""

    name: str
    is_one: Callable[[Path], bool]


def require_output(path: Path, kind: Kind) -> None:
    """Make sure that a file can be written at `path` and that nothing is lost by it.

    Raises:
        OutputError: there is something that is no file or of another kind, or nothing can be written there.

    """
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of the {kind.name} to write")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is not a plain file; nothing can be written there, choose another name")
        if path.is_file() and path.stat().st_size and not kind.is_one(path):
            raise OutputError(f"{path} is there already and is no {kind.name}; remove it or choose another name")
        folder = next(parent for parent in path.absolute().parents if parent.exists() or parent.is_symlink())
        writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    if not writable:
        raise OutputError(f"{path} cannot be written: {folder} is not a folder that can be written to")


def _is_onnx(path: Path) -> bool:
    import onnx

    try:
        return bool(onnx.load(str(path), load_external_data=False).HasField("graph"))
    except Exception:  # protobuf's errors are not part of onnx's interface
        return False


def _is_safetensors(path: Path) -> bool:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy"):
            return True
    except safetensors.SafetensorError:
        return False


def _is_report(path: Path) -> bool:
    text = _text(path)
    return any(mark in text for mark in _REPORT_MARKS)


def _is_picture(path: Path) -> bool:
    text = _text(path)
    return text.startswith("<svg ") and 'class="plot"' in text


def _is_table(path: Path) -> bool:
    try:
        content: Any = json.loads(_text(path))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"schema_version", "provenances", "entries"} <= content.keys()


def _text(path: Path) -> str:
    """The content of a file, if it is no larger than ours are and a text."""
    if path.stat().st_size > _MOST_BYTES:
        return ""
    return path.read_bytes().decode(errors="replace")


ONNX_FILE = Kind("ONNX file", _is_onnx)
WEIGHT_FILE = Kind("safetensors file", _is_safetensors)
REPORT = Kind("report of netadapt", _is_report)
PICTURE = Kind("picture of a report", _is_picture)
TABLE_FILE = Kind("table that netadapt exported", _is_table)
