"""How two runs of benchmark cases compare: which figures changed, and which cannot be compared at all.

What is compared must be alike in everything but the code under test: case, version, digest, platform, clock, profile
and protocol. Otherwise the answer is NOT COMPARABLE, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netadapt.errors import ResultsError
from netadapt.results.schema import CaseResult, ResultFile
from netadapt.results.verdicts import REGRESSIONS, compare_figure
from netadapt.results.verdicts import FigureComparison as FigureComparison


@dataclass(frozen=True)
class CaseComparison:
    """One case in both runs."""

    id: str
    #: Why the case cannot be compared; empty if it can.
    not_comparable: tuple[str, ...]
    figures: tuple[FigureComparison, ...]
    #: Names of figures that only one of the runs has.
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Run B against run A."""

    a: ResultFile
    b: ResultFile
    cases: tuple[CaseComparison, ...]

    @property
    def regressions(self) -> list[tuple[str, FigureComparison]]:
        """Figures that became slower or worse, with the case of each."""
        return [(case.id, figure) for case in self.cases for figure in case.figures if figure.verdict in REGRESSIONS]

    @property
    def not_comparable(self) -> list[CaseComparison]:
        """Cases that cannot be compared."""
        return [case for case in self.cases if case.not_comparable]

    @property
    def lost(self) -> list[tuple[str, str]]:
        """Figures that only run A has, of cases that can be compared, with the case of each."""
        return [(case.id, name) for case in self.cases for name in case.only_a]


@dataclass(frozen=True)
class GateOutcome:
    """Whether a new run may pass."""

    passed: bool
    reasons: tuple[str, ...]
    comparison: Comparison | None


def gate(new: ResultFile, baseline: ResultFile | None, strict: bool = False) -> GateOutcome:
    """Judge a new run by a baseline: it passes unless a figure became slower or worse.

    Without a baseline, or where something cannot be compared, that cannot be judged: it is said, and fails if `strict`.

    Raises:
        ResultsError: the two are of different tiers.

    """
    if baseline is None:
        reason = (
            f"no baseline for {new.platform} (clock {new.clock}, profile {new.profile}): nothing was judged; "
            "commit this run to make it one"
        )
        return GateOutcome(not strict, (reason,), None)
    return judge(compare_results(baseline, new), strict)


def judge(comparison: Comparison, strict: bool = False) -> GateOutcome:
    """Whether B may pass, as `gate` says."""
    worse = [f"{case}, {figure.name}: {figure.verdict} ({figure.reason})" for case, figure in comparison.regressions]
    unjudged = [f"{case.id}: NOT COMPARABLE ({'; '.join(case.not_comparable)})" for case in comparison.not_comparable]
    unjudged += [f"{case}, {name}: NOT COMPARABLE (only A has it)" for case, name in comparison.lost]
    return GateOutcome(not worse and not (strict and unjudged), (*worse, *unjudged), comparison)


def compare_results(a: ResultFile, b: ResultFile) -> Comparison:
    """Compare run B, the newer one, with run A.

    Raises:
        ResultsError: the two are of different tiers.

    """
    if a.tier != b.tier:
        raise ResultsError(
            f"A ({a.platform}) is of tier {a.tier}, B ({b.platform}) of tier {b.tier}; "
            "numbers of different tiers are never compared"
        )
    shared = _differences(a, b, ("fingerprint", "clock", "profile", "protocol_version"))
    of_a, of_b = ({case.id: case for case in run.cases} for run in (a, b))
    cases = [_compare_case(name, of_a.get(name), of_b.get(name), shared, a.tier == "simulated") for name in of_a | of_b]
    return Comparison(a, b, tuple(cases))


def _compare_case(
    name: str, a: CaseResult | None, b: CaseResult | None, shared: list[str], exact: bool
) -> CaseComparison:
    if a is None or b is None:
        return CaseComparison(name, (f"only {'B' if a is None else 'A'} has it",), ())
    reasons = [*shared, *_differences(a, b, ("version", "digest"))]
    if reasons:
        return CaseComparison(name, tuple(reasons), ())
    figures = [
        compare_figure(figure, a.figures[figure], b.figures[figure], exact)
        for figure in a.figures
        if figure in b.figures
    ]
    only_a = tuple(figure for figure in a.figures if figure not in b.figures)
    only_b = tuple(figure for figure in b.figures if figure not in a.figures)
    return CaseComparison(name, (), tuple(figures), only_a, only_b)


def _differences(a: object, b: object, fields: Sequence[str]) -> list[str]:
    return [
        f"{field.replace('_', ' ')} {getattr(a, field)} in A, {getattr(b, field)} in B"
        for field in fields
        if getattr(a, field) != getattr(b, field)
    ]
