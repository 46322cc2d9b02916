"""Whether results can be published: the submission checker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from netadapt.measure import statistics
from netadapt.results.files import read_result
from netadapt.results.schema import Figure, ResultFile

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file, or that a reader should know."""

    severity: Severity
    path: Path
    #: Case and figure, or field.
    where: str
    what: str


def check_file(path: Path) -> list[Finding]:
    """Check one run.

    Raises:
        ResultsError: it cannot be read at all.

    """
    result = read_result(path)
    return [Finding("error", path, where, what) for where, what in _check_figures(result)]


def _check_figures(result: ResultFile) -> list[tuple[str, str]]:
    return [
        (f"{case.id}, {name}", what)
        for case in result.cases
        for name, figure in case.figures.items()
        for what in _check_figure(figure)
    ]


def _check_figure(figure: Figure) -> list[str]:
    faults = []
    if figure.samples and not math.isclose(figure.value, statistics.median(figure.samples), rel_tol=1e-9):
        faults.append("value is not the median of the samples")
    return faults
