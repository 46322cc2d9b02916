"""How much memory this process has taken, so that whoever shares a machine among workers knows what one needs."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: set the peak to what is taken now
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere


def reset_peak_memory() -> bool:
    """Forget the peak, so that `peak_memory_bytes` tells the largest from now on; returns whether the system can."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_memory_bytes() -> int:
    """Return the most memory [bytes] that was resident in this process since `reset_peak_memory`, or since it began.

    Pages that a forked worker shares with its parent (the data set) count in full.
    """
    return _high_water_mark() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _high_water_mark() -> int | None:
    """The peak as Linux counts it; None where it is not Linux, or hides /proc."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes[0] * 1024 if kilobytes else None
