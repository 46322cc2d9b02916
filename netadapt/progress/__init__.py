"""Progress of long work on standard error: one bar on a terminal, else a line now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from netadapt.progress.bar import bar
from netadapt.progress.lines import Lines
from netadapt.progress.live import LiveProgress
from netadapt.progress.time_left import TimeLeft
from netadapt.terminal import REMARKS

__all__ = ["LiveProgress", "live_progress"]

#: How often a log is looked at while nothing happens.
_TICK_S = 5.0


@contextmanager
def live_progress() -> Iterator[LiveProgress]:
    """Show what a command does while the block runs."""
    time_left = TimeLeft()
    if REMARKS.is_terminal:
        with bar(REMARKS, time_left) as display:
            yield LiveProgress(display, time_left)
        return
    lines = Lines(lambda text: REMARKS.print(text, soft_wrap=True, markup=False), time_left)
    ended = threading.Event()
    ticking = threading.Thread(target=_tick, args=(lines, ended), daemon=True)
    ticking.start()
    try:
        yield LiveProgress(lines, time_left)
    finally:
        ended.set()
        ticking.join()


def _tick(lines: Lines, ended: threading.Event) -> None:
    while not ended.wait(_TICK_S):
        lines.tick()
