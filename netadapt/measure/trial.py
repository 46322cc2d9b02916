"""Run a model of unknown origin once, in a process of its own that may be killed.

A file can hold a loop without end, tensors larger than the memory, or what crashes a runtime. None of that can be
stopped from within, so it is tried where it does no harm before the process that measures touches it.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from netadapt.errors import ModelError, NetAdaptError

#: For loading the model and one run of it. What takes longer could not be measured in minutes.
TIME_LIMIT_S = 60.0
_MEMORY_SHARE = 0.8  # of what is free
_TOO_LARGE = 20
_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")


def require_runs(model: Path, time_limit_s: float = TIME_LIMIT_S) -> None:
    """Make sure that ONNX Runtime survives loading and running the model, in bounded time and memory.

    A model that it merely refuses passes: another runtime may take it, and each says for itself what it lacks.

    Raises:
        ModelError: the model takes too long, needs more memory than there is, or crashes.

    """
    command = [sys.executable, "-m", "netadapt.measure.trial", str(model)]
    try:
        # `run` kills the process when time is up, and when this one is interrupted.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{model}: loading it and running it once takes more than {time_limit_s:.0f} s; it may loop without end"
        ) from None
    if done.returncode == _TOO_LARGE or done.returncode == -signal.SIGKILL:
        raise ModelError(f"{model}: needs more memory than is free on this machine")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelError(f"{model}: ends the process that runs it ({name}); it is damaged, or a fault of ONNX Runtime")


def _try(model: Path) -> int:
    """Run the model within limits of memory; the exit code of this process."""
    from netadapt.measure.ort import OrtProgram

    free = _kilobytes(_MEMINFO, "MemAvailable")
    if free is not None:
        most = (_kilobytes(_STATUS, "VmSize") or 0) + round(_MEMORY_SHARE * free)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        OrtProgram(model)()
    except MemoryError:
        return _TOO_LARGE
    except NetAdaptError as error:
        return _TOO_LARGE if "bad_alloc" in str(error) or "allocate memory" in str(error) else 0
    return 0


def _kilobytes(path: Path, name: str) -> int | None:
    """A line of a file of the kernel, in bytes; None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    sys.exit(_try(Path(sys.argv[1])))
