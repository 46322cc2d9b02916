"""The peak of a process's memory, against allocations of known size."""

from __future__ import annotations

import gc
import platform
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netadapt
from netadapt.errors import BudgetError
from netadapt.search.observer import Observer
from netadapt.train import memory
from netadapt.train.device import in_child
from netadapt.train.memory import (
    TrainingMemory,
    free_memory_bytes,
    give_back_memory,
    keep_freed_memory,
    peak_memory_bytes,
    reset_peak_memory,
)

BLOCK = 256 * 2**20
SLACK = 64 * 2**20  # what the interpreter and the allocator may take or give back meanwhile; Linux counts roughly, too


def test_the_peak_grows_by_what_is_taken_and_stays() -> None:
    def grown_by() -> tuple[int, int]:
        before = peak_memory_bytes()
        block = np.ones(BLOCK, np.uint8)
        during = peak_memory_bytes()
        del block
        return during - before, peak_memory_bytes() - before

    # In a child: this process may have had more at some time, which would hide what is taken now.
    during, after = in_child(lambda: (reset_peak_memory(), grown_by())[1])
    assert during == pytest.approx(BLOCK, abs=SLACK)
    assert after == pytest.approx(during, abs=SLACK)


def test_a_reset_forgets_what_is_given_back() -> None:
    def peaks() -> tuple[int, int]:
        np.ones(BLOCK, np.uint8)
        before = peak_memory_bytes()
        if not reset_peak_memory():
            return before, 0
        return before, peak_memory_bytes()

    before, after = in_child(peaks)
    if not after:
        pytest.skip("this system cannot reset the peak of a process's memory")
    assert before - after == pytest.approx(BLOCK, abs=SLACK)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to give memory back")
@pytest.mark.parametrize(("large_from", "given_back"), [(0, BLOCK), (2**50, 0)])
def test_holes_are_given_back_by_large_processes(
    monkeypatch: pytest.MonkeyPatch, large_from: int, given_back: int
) -> None:
    monkeypatch.setattr(memory, "_LARGE_BYTES", large_from)

    def resident() -> int:
        return memory._kilobytes(memory._STATUS, "VmRSS") or 0

    def difference() -> int:
        gc.collect()  # what tests before have left
        size = 100_000  # too small to be taken from the system one by one
        blocks = [bytearray(size) for _ in range(BLOCK // size)]
        last = blocks.pop()
        blocks.clear()
        before = resident()
        give_back_memory()
        return before - resident() + 0 * len(last)

    assert in_child(difference) == pytest.approx(given_back, abs=SLACK)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_what_a_step_of_training_frees_is_there_for_the_next() -> None:
    def pages_taken() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        activations = [bytearray(12 * 2**20) for _ in range(10)]
        del activations
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def first_and_second_step() -> tuple[int, int]:
        keep_freed_memory()
        return pages_taken(), pages_taken()

    first, second = in_child(first_and_second_step)
    assert second <= 0.1 * first  # which is few where pages are huge


def test_without_proc_the_peak_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = in_child(peak_memory_bytes)
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "absent" / "too")
    assert not reset_peak_memory()
    assert in_child(peak_memory_bytes) == pytest.approx(known, abs=SLACK)


def test_what_training_keeps_is_counted() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU())
    needed = TrainingMemory.of(network, torch.rand(1, 1, 8, 8))
    image, activation = 4 * 8 * 8, 4 * 4 * 6 * 6  # bytes: the convolution's input, the ReLU's output, not the weights
    assert needed.per_image == round(1.3 * (image + activation))
    assert needed.fixed == 250_000_000 + 4 * (4 * 4 * 9)
    assert needed.at(10) == needed.fixed + 10 * needed.per_image


def test_counting_leaves_everything_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    state = torch.get_rng_state()
    TrainingMemory.of(network, torch.rand(1, 1, 8, 8, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert network[1].num_batches_tracked == 0


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 8 GB available, and a control group without a limit."""
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def test_a_limit_of_the_control_group_counts(free: Path) -> None:
    assert free_memory_bytes() == 8_192_000_000
    (free / "memory.max").write_text("6000000000\n")
    assert free_memory_bytes() == 5_000_000_000
    (free / "memory.max").unlink()
    (free / "meminfo").unlink()
    assert free_memory_bytes() is None
    assert TrainingMemory(10**12, 10**12).warning(128, 2) == ""


@pytest.mark.usefixtures("free")
def test_what_does_not_fit_is_told_with_what_does() -> None:
    needed = TrainingMemory(fixed=496_000_000, per_image=100_000_000)
    assert needed.warning(36, 2) == ""  # 2 x 4.096 GB
    assert needed.warning(128, 2) == (
        "training in batches of 128 takes about 13.3 GB in each of 2 workers, but 8.2 GB are free in all; "
        "batches of up to 36 would fit"
    )
    assert "fewer workers" in needed.warning(128, 16)


class Listener(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("meminfo_kb", "told"), [(10**9, 0), (400_000, 1)])
def test_adapt_tells_it_before_it_begins(free: Path, tmp_path: Path, meminfo_kb: int, told: int) -> None:
    (free / "meminfo").write_text(f"MemAvailable: {meminfo_kb} kB\n")
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    listener = Listener()
    with pytest.raises(BudgetError, match="impossible"):
        netadapt.adapt(
            network,
            torch.rand(1, 1, 32, 32),
            "fashion-mnist-mini",
            budget="macs=1k",
            out=tmp_path / "run",
            table=tmp_path / "table.sqlite",
            workers=2,
            observer=listener,
        )
    assert sum("in batches of 128 takes about 0.3 GB in each of 2 worker" in note for note in listener.notes) == told
