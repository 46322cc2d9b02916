"""What the command line shows of results: every number with its unit, every table with its tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import markup

from netadapt.errors import ResultsError
from netadapt.results.check import Finding
from netadapt.results.compare import CaseComparison, Comparison
from netadapt.results.files import read_result
from netadapt.results.schema import ResultFile
from netadapt.results.verdicts import REGRESSIONS, FigureComparison
from netadapt.terminal import print_json, print_table, say

#: By unit of a figure: what it is divided by for people, and their unit.
_SCALES = {"ns": (1e6, "ms"), "pJ": (1e6, "uJ"), "bytes": (1e6, "MB")}
_COLOURS = {
    "SLOWER": "red",
    "WORSE": "red",
    "FASTER": "green",
    "BETTER": "green",
    "AMBIGUOUS": "yellow",
    "NOT COMPARABLE": "yellow",
}
_SEVERITIES = {"unreadable": "bold red", "error": "red", "warning": "yellow"}


def escape(text: str) -> str:
    """A text out of a file so that it neither colours what is shown nor steers the terminal."""
    return markup.escape("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text))


def quantity(value: float, unit: str) -> str:
    """A number in a unit that people read: `ns` in ms, `share` in percent."""
    if unit == "share":
        return f"{value:.2%}"
    if unit == "count":
        return f"{value:,g}"
    scale, shown = _SCALES.get(unit, (1.0, unit))
    return f"{value / scale:,.4g}" + ("" if unit == "ratio" else f" {shown}")


def print_check(runs: Sequence[Path], findings: Sequence[Finding], as_json: bool) -> None:
    """Show what is wrong with some runs."""
    if as_json:
        facts = [{**asdict(finding), "path": str(finding.path)} for finding in findings]
        print_json({"files": [str(run) for run in runs], "findings": facts})
        return
    for finding in findings:
        severity = f"[{_SEVERITIES[finding.severity]}]{finding.severity}[/]"
        say(f"{severity} {escape(str(finding.path))}: {escape(finding.where)}: {escape(finding.what)}")
    counts = Counter(finding.severity for finding in findings)
    files = "1 file" if len(runs) == 1 else f"{len(runs)} files"
    say(f"{files} checked: {counts['unreadable']} unreadable, {counts['error']} errors, {counts['warning']} warnings")


def print_runs(runs: Sequence[Path], as_json: bool) -> None:
    """List runs with what they are of."""
    read = [(run, _try_to_read(run)) for run in runs]
    if as_json:
        print_json([{"file": str(path), **_facts_of(run)} for path, run in read])
        return
    rows = [[escape(path.stem), *_row_of(run)] for path, run in read]
    print_table("Results", ["run", "platform", "tier", "clock", "profile", "cases"], rows)
    for fault in (run for _, run in read if isinstance(run, str)):
        say(f"[red]unreadable[/] {escape(fault)}")


def print_comparison(a: Path, b: Path, comparison: Comparison, as_json: bool) -> None:
    """Show how run B differs from run A."""
    if as_json:
        print_json(_comparison_facts(a, b, comparison))
        return
    for letter, path, run in (("A", a, comparison.a), ("B", b, comparison.b)):
        say(
            f"{letter}: {escape(str(path))} ({escape(run.platform)}, tier: {run.tier}, clock: {run.clock}, "
            f"{run.profile}, {escape(run.made.date)}, {escape(run.made.commit or run.made.netadapt)})"
        )
    rows = [_row_of_figure(case.id, figure) for case in comparison.cases for figure in case.figures]
    print_table(f"B against A (tier: {comparison.a.tier})", ["case", "figure", "A", "B", "B / A", "verdict"], rows)
    for remark in (remark for case in comparison.cases for remark in _remarks(case)):
        say(remark)
    counts = Counter(figure.verdict for case in comparison.cases for figure in case.figures)
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    unlike = len(comparison.not_comparable)
    say(f"figures: {told or 'none compared'}; cases NOT COMPARABLE: {unlike} of {len(comparison.cases)}")


def _row_of_figure(case: str, figure: FigureComparison) -> list[str]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
    interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    values = (quantity(figure.a, figure.unit), quantity(figure.b, figure.unit))
    return [escape(case), escape(figure.name), *map(escape, values), ratio + interval, _coloured(figure.verdict)]


def _remarks(case: CaseComparison) -> Iterator[str]:
    """What a table has no room for: why something cannot be compared, or what a verdict stands on."""
    if case.not_comparable:
        yield f"{_coloured('NOT COMPARABLE')} {escape(case.id)}: {escape('; '.join(case.not_comparable))}"
    for figure in case.figures:
        if figure.verdict in _COLOURS:
            yield f"{_coloured(figure.verdict)} {escape(case.id)}, {escape(figure.name)}: {escape(figure.reason)}"
    for letter, names in (("A", case.only_a), ("B", case.only_b)):
        if names:
            yield f"only in {letter}: {escape(case.id)}, {escape(', '.join(names))}"


def _coloured(verdict: str) -> str:
    colour = _COLOURS.get(verdict)
    return f"[{colour}]{verdict}[/]" if colour else verdict


def _comparison_facts(a: Path, b: Path, comparison: Comparison) -> dict[str, Any]:
    runs = {
        letter: {"file": str(path), **_facts_of(run)}
        for letter, path, run in (("a", a, comparison.a), ("b", b, comparison.b))
    }
    regressed = [{"case": case, "figure": figure.name} for case, figure in comparison.regressions]
    cases = [{**asdict(case), "verdict": _verdict(case)} for case in comparison.cases]
    return {**runs, "tier": comparison.a.tier, "cases": cases, "regressions": regressed}


def _verdict(case: CaseComparison) -> str:
    """The worst of a case's figures."""
    if case.not_comparable:
        return "NOT COMPARABLE"
    verdicts = [figure.verdict for figure in case.figures]
    for verdict in (*REGRESSIONS, "AMBIGUOUS", "FASTER", "BETTER"):
        if verdict in verdicts:
            return verdict
    return "SAME"


def _try_to_read(path: Path) -> ResultFile | str:
    try:
        return read_result(path)
    except ResultsError as error:
        return str(error)


def _facts_of(run: ResultFile | str) -> dict[str, Any]:
    if isinstance(run, str):
        return {"unreadable": run}
    facts = run.model_dump(mode="json", exclude={"cases", "environment", "schema_version"})
    return {**facts, "cases": {case.id: case.version for case in run.cases}}


def _row_of(run: ResultFile | str) -> list[str]:
    if isinstance(run, str):
        return ["", "", "", "", "[red]unreadable[/]"]
    return [escape(run.platform), run.tier, run.clock, run.profile, str(len(run.cases))]
