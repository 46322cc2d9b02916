"""Where to train: on this machine's CPU, or on a GPU that torch sees through CUDA.

Worker processes are forked, and CUDA, once initialised, does not survive a fork. So whatever a search does on a GPU
before its workers are gone, it does in children: counting GPUs here, evaluating the original (`in_child`), proposals.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from netadapt.errors import NetAdaptError
from netadapt.train.checks import device_index
from netadapt.wording import counted

CPU = "cpu"

Result = TypeVar("Result")


class TrainingDeviceError(NetAdaptError):
    """A device to train on that this machine, or this process, does not have."""


def training_device(name: str, workers: int = 1) -> str:
    """Return the device to train on with so many workers: ``cpu``, ``cuda`` or ``cuda:INDEX``.

    ``auto`` is CUDA where torch sees a GPU, else the CPU. CUDA is not initialised in this process.

    Raises:
        UnknownNameError: the name is none of a device.
        TrainingDeviceError: torch sees no such GPU, or workers could not use it when forked from this process.

    """
    index = device_index(name)
    if name == CPU:
        return CPU
    count = _gpu_count()
    if name == "auto":
        name = "cuda" if count else CPU
    elif (index or 0) >= count:
        raise TrainingDeviceError(
            f"{name}: torch {torch.__version__} sees {counted(count, 'CUDA device')}; choose another one, or auto"
        )
    if name != CPU and workers > 1 and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise TrainingDeviceError(
            f"{name}: this process has used CUDA already, which does not survive the fork of {workers} workers; use "
            "one worker, or a new process"
        )
    return name


def in_child(work: Callable[[], Result]) -> Result:
    """Return what ``work`` returns in a forked child, plain values: this process stays as if it had not been done.

    Raises:
        TrainingDeviceError: the work raised an error, which it tells, or the child died.

    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(theirs, work), daemon=True)
    child.start()
    theirs.close()
    try:
        succeeded, result = json.loads(ours.recv_bytes())
    except EOFError:
        child.join()
        raise TrainingDeviceError(f"a child process died ({_ending(child.exitcode)}); out of memory?") from None
    finally:
        child.kill()
        child.join()
        ours.close()
    if not succeeded:
        raise TrainingDeviceError(result)
    value: Result = result
    return value


def _tell(connection: Connection, work: Callable[[], Any]) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        message = (True, work())
    except Exception as error:
        message = (False, f"{type(error).__name__}: {error}")
    connection.send_bytes(json.dumps(message).encode())


def _ending(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _gpu_count() -> int:
    """How many GPUs torch sees; asked in a child, because where NVML is missing asking initialises CUDA."""
    return in_child(torch.cuda.device_count)
