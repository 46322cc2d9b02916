"""Runs that are killed again and again, and resumed."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from small_search import products

Adapt = Callable[[Path, int], object]
"""Runs or resumes the search of a folder, with a number of workers."""


def check_that_killed_runs_end_with_the_same_networks(adapt: Adapt, folder: Path, kills: int) -> None:
    """Kill a run at random instants; with what is left each time, it ends like one that nobody disturbed.

    The instants are counted in events of the journal and then a random part of the time between two events. Counted
    in seconds from the start they would all be too late as soon as the undisturbed run was the slower one.
    """
    started = time.monotonic()
    adapt(folder / "whole", 1)
    length_s = time.monotonic() - started
    expected = products(folder / "whole")
    events = _events(folder / "whole")
    generator = random.Random(0)
    out = folder / "killed"
    finished = 0
    for number in range(kills):
        further = generator.randrange(int(0.7 * events))
        pause_s = generator.uniform(0.0, length_s / events)
        # In turn with and without worker processes: a run may be resumed with another number of them.
        if _run_and_kill(adapt, out, number % 2 + 1, _events(out) + further, pause_s):
            finished += 1
            assert products(out) == expected
            shutil.rmtree(out)
    adapt(out, 1)
    assert products(out) == expected
    assert finished < kills


def _events(run: Path) -> int:
    journal = run / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _run_and_kill(adapt: Adapt, out: Path, workers: int, events: int, pause_s: float) -> bool:
    """Run in a process of its own that is killed a pause after so many events; whether it had finished before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            adapt(out, workers)
            code = 0
        finally:
            os._exit(code)
    kill_at = None
    while kill_at is None or time.monotonic() < kill_at:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return True
        if kill_at is None and _events(out) >= events:
            kill_at = time.monotonic() + pause_s
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
