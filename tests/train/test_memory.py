"""The peak of a process's memory, against allocations of known size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netadapt.train import memory
from netadapt.train.device import in_child
from netadapt.train.memory import peak_memory_bytes, reset_peak_memory

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


def test_without_proc_the_peak_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = in_child(peak_memory_bytes)
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "absent" / "too")
    assert not reset_peak_memory()
    assert in_child(peak_memory_bytes) == pytest.approx(known, abs=SLACK)
