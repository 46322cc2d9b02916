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
from dataclasses import dataclass
from typing import Literal

from netadapt.errors import ResultsError
from netadapt.measure import statistics
from netadapt.results.schema import CaseResult, Figure, ResultFile

Verdict = Literal["SAME", "FASTER", "SLOWER", "BETTER", "WORSE", "AMBIGUOUS", "NOT JUDGED"]

REGRESSIONS: tuple[Verdict, ...] = ("SLOWER", "WORSE")

#: Units in which lower is faster.
TIME_UNITS = ("ns", "s")

#: Relative difference of timings below which they count as equal; see tests/results/test_compare_noise.py.
MARGIN = 0.05
#: Of the interval that must exclude 1 before anything is called faster or slower.
CONFIDENCE = 0.99
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


@dataclass(frozen=True)
class GateOutcome:
    """Whether a new run may pass."""

    passed: bool
    reasons: tuple[str, ...]
    comparison: Comparison | None


def gate(new: ResultFile, baseline: ResultFile | None, strict: bool = False) -> GateOutcome:
    """Judge a new run by a baseline: it passes unless a figure became slower or worse.

    Without a baseline, or where cases cannot be compared, nothing can be judged: that is said, and fails if `strict`.

    Raises:
        ResultsError: the two are of different tiers.

    """
    if baseline is None:
        reason = (
            f"no baseline for {new.platform} (clock {new.clock}, profile {new.profile}): nothing was judged; "
            "commit this run to make it one"
        )
        return GateOutcome(not strict, (reason,), None)
    comparison = compare_results(baseline, new)
    worse = [f"{case}, {figure.name}: {figure.verdict} ({figure.reason})" for case, figure in comparison.regressions]
    unjudged = [f"{case.id}: NOT COMPARABLE ({'; '.join(case.not_comparable)})" for case in comparison.not_comparable]
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


def _compare_figure(name: str, a: Figure, b: Figure, exact: bool) -> FigureComparison:
    """Judge a figure by its rounds where it has them, else by its value."""

    def told(
        verdict: Verdict, reason: str, ratio: float | None = None, low: float | None = None, high: float | None = None
    ) -> FigureComparison:
        return FigureComparison(name, a.unit, a.value, b.value, verdict, ratio, low, high, reason)

    ratio = b.value / a.value if a.value > 0 and b.value > 0 else None
    if a.unit != b.unit or a.better != b.better:
        return told("AMBIGUOUS", f"{a.unit}, {a.better} is better in A; {b.unit}, {b.better} in B")
    if a.better == "neither":
        return told("NOT JUDGED", "neither direction is better", ratio)
    if _is_exact(a) and _is_exact(b) and exact:
        changed = abs(b.value - a.value) > EXACT_MARGIN * abs(a.value)
        return told(_direction(a, b.value > a.value) if changed else "SAME", "exact", ratio)
    units_a, units_b = _rounds(a), _rounds(b)
    interval = shift_interval(units_a, units_b, CONFIDENCE) if units_a and units_b else None
    if interval:
        ratio, low, high = (math.exp(bound) for bound in interval)
        return told(_judge(a, ratio, low, high), f"{len(units_a)} and {len(units_b)} rounds", ratio, low, high)
    return told(*_judge_values(a, b), ratio)


def _is_exact(figure: Figure) -> bool:
    return len(set(figure.samples)) == 1


def _rounds(figure: Figure) -> list[float]:
    """Logarithms of the rounds, of times in units of what the reference took in the same round."""
    samples, reference = figure.samples, figure.reference_ns
    if not samples or min(samples) <= 0:
        return []
    if figure.unit in TIME_UNITS and len(reference) == len(samples) and min(reference) > 0:
        return [math.log(sample / cost) for sample, cost in zip(samples, reference, strict=True)]
    return [math.log(sample) for sample in samples]


def shift_interval(a: Sequence[float], b: Sequence[float], confidence: float) -> tuple[float, float, float] | None:
    """How far B lies above A: the median of all differences, and the interval that inverts the rank-sum test.

    Hodges and Lehmann's estimate, which two spoiled rounds of seven cannot move far, and an interval that holds for
    any continuous distribution (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, section 4.3). None
    where there are too few rounds for one.
    """
    rank = rank_sum_rank(len(a), len(b), confidence)
    if rank is None:
        return None
    differences = sorted(y - x for x in a for y in b)
    return statistics.median(differences), differences[rank - 1], differences[-rank]


def rank_sum_rank(m: int, n: int, confidence: float) -> int | None:
    """Rank, from either end, of the differences of `m` and `n` values that enclose the shift with a confidence.

    The k-th smallest difference lies above the true shift when Mann and Whitney's U is below k.
    """
    tail = (1 - confidence) / 2 * math.comb(m + n, m)
    below = 0
    for rank, arrangements in enumerate(_u_counts(m, n)):
        below += arrangements
        if below > tail:
            return rank or None
    return None


def _u_counts(m: int, n: int) -> list[int]:
    """In how many of the arrangements of `m` and `n` values U is 0, 1, 2, ...: a Gaussian binomial coefficient."""
    counts = [1] + [0] * (m * n)
    for size in range(1, m + 1):
        for u in range(m * n, size + n - 1, -1):
            counts[u] -= counts[u - size - n]
        for u in range(size, m * n + 1):
            counts[u] += counts[u - size]
    return counts


def _judge(figure: Figure, ratio: float, low: float, high: float) -> Verdict:
    if 1 / (1 + MARGIN) <= ratio <= 1 + MARGIN:
        return "SAME" if low >= 1 / (1 + MARGIN) and high <= 1 + MARGIN else "AMBIGUOUS"
    return "AMBIGUOUS" if low <= 1 <= high else _direction(figure, ratio > 1)


def _judge_values(a: Figure, b: Figure) -> tuple[Verdict, str]:
    difference, tolerance = abs(b.value - a.value), max(a.tolerance, b.tolerance)
    if difference <= tolerance:
        return "SAME", f"within {tolerance:g} {a.unit}"
    verdict = _direction(a, b.value > a.value)
    if "contended" in (a.status, b.status) or "unconverged" in (a.status, b.status):
        return "AMBIGUOUS", f"status {a.status} in A, {b.status} in B"
    if _inside(b.value, a) or _inside(a.value, b):
        return "AMBIGUOUS", "inside the other's confidence interval"
    return verdict, f"differs by more than {tolerance:g} {a.unit}"


def _inside(value: float, figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None and figure.low <= value <= figure.high


def _direction(figure: Figure, increased: bool) -> Verdict:
    improved = increased == (figure.better == "higher")
    if figure.unit in TIME_UNITS and figure.better == "lower":
        return "FASTER" if improved else "SLOWER"
    return "BETTER" if improved else "WORSE"
