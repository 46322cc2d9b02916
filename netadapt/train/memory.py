"""How much memory training takes: what this process has taken, and what workers will take, told before they do.

Sizes of processes are those that Linux tells under /proc.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from netadapt.wording import counted

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LARGE_BYTES = 2**30
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: set the peak to what is taken now
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere

# malloc.h of glibc; twice as much of both is hardly faster, and costs a worker with large images 0.2 GB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 128 * 2**20
_LARGEST_KEPT_BYTES = 16 * 2**20

# Measured with resnet50@224 in batches of 8 and 16 and mobilenet_v1@224 in batches of 32: docs/large-models.md.
_PROCESS_BYTES = 250_000_000  # Python and torch; most of it is shared by all workers
_LOST_IN_ALLOCATOR = 1.3  # taken for what is kept
_COPIES_OF_WEIGHTS = 4  # source, proposal, gradients, momentum


def keep_freed_memory() -> None:
    """Have the C library keep up to 128 MB that were freed, in blocks of up to 16 MB, for the next step of training.

    Left to itself, glibc gives the activations of a step back to the system more often than not, depending on what the
    process did before, and the system clears the same pages anew: docs/search.md has what that costs. This is
    for the whole process, and for good.
    """
    with suppress(OSError, AttributeError):  # a C library that is not glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)


def give_back_memory() -> None:
    """Give memory that is not used any more back to the system, if this process is large.

    Narrowed networks hang in circles with the graph of their layers' dependencies, which Python's collector looks for
    too seldom: eight proposals with a layer of 67 MB took 0.5 GB more than two. And networks of many shapes
    leave holes that the C library neither fills nor gives back: after analysing resnet50@224 a process had 2.4 GB, of
    which 0.5 were in use. Small processes are left alone, as looking for circles and taking pages anew takes time.
    """
    if (_kilobytes(_STATUS, "VmRSS") or 0) < _LARGE_BYTES:
        return
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> bool:
    """Forget the peak, so that `peak_memory_bytes` tells the largest from now on; returns whether the system can.

    What was freed is given back first. Done before each proposal, a worker does not grow from one to the next.
    """
    give_back_memory()
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_memory_bytes() -> int:
    """Return the most memory [bytes] that was resident in this process since `reset_peak_memory`, or since it began.

    Pages that a forked worker shares with its parent (the data set) count in full.
    """
    told = _kilobytes(_STATUS, "VmHWM")
    return told or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


@dataclass(frozen=True)
class TrainingMemory:
    """What one worker takes to train a network, about: so many bytes, and so many more for each image of a batch."""

    fixed: int
    per_image: int

    @classmethod
    def of(cls, module: nn.Module, example_input: Tensor) -> Self:
        """Estimate it from what one step on inputs like ``example_input`` [1, C, H, W] keeps for its backward pass."""
        weights = sum(parameter.nbytes for parameter in module.parameters())
        kept = _kept_bytes(copy.deepcopy(module).train(), example_input)
        fixed = _PROCESS_BYTES + _COPIES_OF_WEIGHTS * weights
        return cls(fixed, round(_LOST_IN_ALLOCATOR * kept))

    def at(self, batch_size: int) -> int:
        """Bytes for batches of this size."""
        return self.fixed + self.per_image * batch_size

    def warning(self, batch_size: int, workers: int) -> str:
        """Return what to change if so many workers do not fit into the memory that is free; empty if they do."""
        free = free_memory_bytes()
        if free is None or workers * self.at(batch_size) <= free:
            return ""
        largest = (free // workers - self.fixed) // self.per_image
        advice = f"batches of up to {largest} would fit" if largest > 1 else "take fewer workers"
        return (
            f"training in batches of {batch_size} takes about {self.at(batch_size) / 1e9:.1f} GB in each of "
            f"{counted(workers, 'worker')}, but {free / 1e9:.1f} GB are free in all; {advice}"
        )


def free_memory_bytes() -> int | None:
    """Return how much memory is left for new processes, here and in this process's control group; None if unknown."""
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    left = [limit - used] if limit is not None and used is not None else []
    available = _kilobytes(_MEMINFO, "MemAvailable")
    return min([*left, *([available] if available is not None else [])], default=None)


def _kept_bytes(module: nn.Module, example_input: Tensor) -> int:
    """Bytes for each image that autograd keeps from the forward to the backward pass."""
    images = torch.cat([example_input, example_input])  # two, as batch normalisation cannot train on one
    own = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = module(images)
        del result  # only now, so that no kept storage was freed and its address given to another
    return sum(size for address, size in kept.items() if address not in own) // 2


def _kilobytes(path: Path, field: str) -> int | None:
    """The bytes of a line such as ``VmHWM:   1234 kB``."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max": no limit
