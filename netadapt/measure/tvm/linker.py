"""Link compiled code into a shared library that a device can load."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from netadapt.errors import MeasurementError
from netadapt.measure.platform import TvmTarget

#: The value of `TvmTarget.linker` that stands for the linker in the Python package of that name.
ZIGLANG = "ziglang"
_LIMIT_S = 120.0


def linked(executable: Any, target: TvmTarget) -> bytes:
    """The shared library of what `tvm.compile` gave.

    Raises:
        MeasurementError: there is no such linker, or it fails.

    """
    command = link_command(target)

    def link(output: str, objects: list[str], options: Any = None, **_: Any) -> None:
        _run([*command, "-shared", "-o", output, *([objects] if isinstance(objects, str) else objects)])

    link.output_format = "so"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="netadapt-link-") as folder:
        path = Path(folder) / "model.so"
        executable.export_library(str(path), fcompile=link)
        return path.read_bytes()


def link_command(target: TvmTarget) -> list[str]:
    """Start of the linker's command line.

    Raises:
        MeasurementError: it is not there; says what gets it.

    """
    if target.linker == ZIGLANG:
        if importlib.util.find_spec("ziglang") is None:
            raise MeasurementError(
                "linking for a board needs the package ziglang; install it with: pip install ziglang"
            )
        # The bare linker: what the code calls (memset, expf) is in the process that loads it.
        return [sys.executable, "-m", "ziglang", "ld.lld"]
    if shutil.which(target.linker) is None:
        raise MeasurementError(
            f"the linker {target.linker!r} is not there; install it, or set runtime.target.linker of the platform to"
            f" another compiler or to {ZIGLANG!r} (pip install ziglang)"
        )
    return [target.linker, "-fPIC"]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"linking: {command[0]} did not end within {_LIMIT_S:g} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise MeasurementError(f"linking: {command[0]} failed with status {done.returncode}: " + "; ".join(last))
