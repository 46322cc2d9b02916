"""How a measurement's status is shown: silent where all is well, marked where it is not."""

from __future__ import annotations

from netadapt.measure.measurement import DOUBTFUL, STATUSES
from netadapt.report.content import Cell

_MEANINGS = {
    "converged": "converged (to within 2 %)",
    "stable-noisy": "stable-noisy (more measuring would not narrow its interval)",
    "unconverged": "unconverged (its interval is wide)",
    "contended": "contended (the machine was busy)",
}


def explained(status: str) -> str:
    """A status with what it means."""
    return _MEANINGS.get(status, status)


def status_cell(text: str, *statuses: str) -> Cell:
    """A cell that bears the least trustworthy of the statuses, unless it converged."""
    known = [status for status in STATUSES if status in statuses]
    worst = known[-1] if known else "converged"
    return Cell(text, "" if worst == "converged" else worst, "warn" if worst in DOUBTFUL else "")
