"""How two runs of benchmark cases compare: which figures changed, and which cannot be compared at all.

What is compared must be alike in everything but the code under test: case, version, digest, platform, clock, profile
and protocol. Otherwise the answer is NOT COMPARABLE, and why.

Timings of two runs lie hours or months apart, so they are never compared as such. Each round of a run times a
reference model in turn with the case, and what is compared is the ratio of the two: what slows the whole machine down
cancels. The rounds are the units, not the blocks inside a round, for the blocks of a round share its luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from netadapt.errors import ResultsError
from netadapt.measure import statistics
from netadapt.results.figures import CLOCKED_ORIGINS, COST_UNITS, TIME_UNITS, is_noisy
from netadapt.results.schema import CaseResult, Figure, ResultFile
from netadapt.results.shift import Shift, shift

Verdict = Literal["SAME", "FASTER", "SLOWER", "BETTER", "WORSE", "AMBIGUOUS", "NOT JUDGED"]

REGRESSIONS: tuple[Verdict, ...] = ("SLOWER", "WORSE")

#: Relative difference of costs below which they count as equal. A larger one is missed more often than it is
#: imagined: tests/results/test_compare_noise.py has what follows from it.
MARGIN = 0.05
#: Relative difference that is told where numbers are exact (a simulated clock).
EXACT_MARGIN = 0.001


@dataclass(frozen=True)
class FigureComparison:
    """One figure of a case in both runs; `b` is the newer."""

    name: str
    unit: str
    a: float
    b: float
    verdict: Verdict
    #: B / A with its confidence interval: of the rounds' ratios to the reference where there are rounds, else of the
    #: values. None where there is none.
    ratio: float | None
    low: float | None
    high: float | None
    #: What decided.
    reason: str


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
        _compare_figure(figure, a.figures[figure], b.figures[figure], exact)
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


def _compare_figure(name: str, a: Figure, b: Figure, simulated: bool) -> FigureComparison:
    """Judge a figure: exactly where clocks are, by its rounds where it has them, else by its value."""
    judgement = (
        _unjudged(a, b)
        or (_by_exact_cost(a, b) if simulated else None)
        or _by_relative_rounds(a, b)
        or _by_absolute_rounds(a, b)
        or _by_value(a, b, simulated)
    )
    return FigureComparison(name, a.unit, a.value, b.value, **asdict(judgement))


@dataclass(frozen=True)
class _Judgement:
    verdict: Verdict
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


def _unjudged(a: Figure, b: Figure) -> _Judgement | None:
    if a.unit != b.unit or a.better != b.better:
        return _Judgement("AMBIGUOUS", f"{a.better} {a.unit} is better in A, {b.better} {b.unit} in B")
    if a.better == "neither":
        return _Judgement("NOT JUDGED", "neither direction is better", _ratio(a, b))
    return None


def _by_exact_cost(a: Figure, b: Figure) -> _Judgement | None:
    """A clock that repeats itself: every difference is one of the code."""
    if a.unit not in COST_UNITS or len(set(a.samples)) != 1 or len(set(b.samples)) != 1:
        return None
    changed = abs(b.value - a.value) > EXACT_MARGIN * abs(a.value)
    return _Judgement(_direction(a, b.value > a.value) if changed else "SAME", "deterministic", _ratio(a, b))


def _by_relative_rounds(a: Figure, b: Figure) -> _Judgement | None:
    """Costs: the ratio of their rounds, each divided by what the reference took in the same round."""
    if a.unit not in COST_UNITS:
        return None
    referenced = _has_reference(a) and _has_reference(b)
    moved = shift(_logarithms(a, referenced), _logarithms(b, referenced))
    if moved is None:
        return None
    margin = math.log1p(max(MARGIN, _tolerance(a, b) / statistics.median(a.samples)))
    unit = "rounds, each divided by its reference" if referenced else "rounds without a reference"
    return _Judgement(
        _judge(a, moved, margin),
        f"{len(a.samples)} and {len(b.samples)} {unit}",
        *(math.exp(bound) for bound in (moved.value, moved.low, moved.high)),
    )


def _by_absolute_rounds(a: Figure, b: Figure) -> _Judgement | None:
    """Shares and counts over several seeds: the difference, of which the tolerance says nothing."""
    moved = shift(a.samples, b.samples)
    if moved is None:
        return None
    reason = f"{moved.value:+.4g} {a.unit} ({moved.low:+.4g} to {moved.high:+.4g})"
    return _Judgement(_judge(a, moved, _tolerance(a, b)), reason, _ratio(a, b))


def _by_value(a: Figure, b: Figure, simulated: bool) -> _Judgement:
    tolerance, ratio = _tolerance(a, b), _ratio(a, b)
    # 0.930 - 0.925 is a little more than 0.005.
    if abs(b.value - a.value) <= tolerance * (1 + 1e-9):
        return _Judgement("SAME", f"within the tolerance of {tolerance:g}", ratio)
    if is_noisy(a) or is_noisy(b):
        return _Judgement("AMBIGUOUS", f"{a.status} in A, {b.status} in B", ratio)
    if not simulated and a.origin in CLOCKED_ORIGINS and not (tolerance or _has_interval(a) or _has_interval(b)):
        return _Judgement("AMBIGUOUS", "has neither tolerance nor interval, and its clock is a real one", ratio)
    if _encloses(a, b.value) or _encloses(b, a.value):
        return _Judgement("AMBIGUOUS", "inside the confidence interval of the other", ratio)
    return _Judgement(_direction(a, b.value > a.value), f"differs by more than the tolerance of {tolerance:g}", ratio)


def _judge(figure: Figure, moved: Shift, margin: float) -> Verdict:
    if abs(moved.value) > margin and not moved.low <= 0 <= moved.high:
        return _direction(figure, moved.value > 0)
    return "SAME" if -margin <= moved.low and moved.high <= margin else "AMBIGUOUS"


def _direction(figure: Figure, increased: bool) -> Verdict:
    improved = increased == (figure.better == "higher")
    if figure.unit in TIME_UNITS and figure.better == "lower":
        return "FASTER" if improved else "SLOWER"
    return "BETTER" if improved else "WORSE"


def _has_reference(figure: Figure) -> bool:
    return figure.unit in TIME_UNITS and len(figure.reference_ns) == len(figure.samples) > 0


def _logarithms(figure: Figure, referenced: bool) -> list[float]:
    """Of the rounds; none where there is something that has no logarithm."""
    divisors = figure.reference_ns if referenced else (1.0,) * len(figure.samples)
    if min(*figure.samples, *divisors, math.inf, math.inf) <= 0:
        return []
    return [math.log(sample / divisor) for sample, divisor in zip(figure.samples, divisors, strict=True)]


def _tolerance(a: Figure, b: Figure) -> float:
    return max(a.tolerance, b.tolerance)


def _ratio(a: Figure, b: Figure) -> float | None:
    return b.value / a.value if a.value > 0 and b.value > 0 else None


def _has_interval(figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None


def _encloses(figure: Figure, value: float) -> bool:
    return figure.low is not None and figure.high is not None and figure.low <= value <= figure.high
