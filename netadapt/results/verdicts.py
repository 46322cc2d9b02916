"""Whether a figure changed, and how sure that is.

Timings of two runs lie hours or months apart, so they are never compared as such. Each round of a run times a
reference model in turn with the case, and what is compared is the ratio of the two: what slows the whole machine down
cancels. The rounds are the units, not the blocks inside a round, for the blocks of a round share its luck.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from netadapt.measure import statistics
from netadapt.results.figures import CLOCKED_ORIGINS, COST_UNITS, TIME_UNITS, is_beyond_counting, is_noisy
from netadapt.results.schema import Figure
from netadapt.results.shift import Shift, shift

Verdict = Literal["SAME", "FASTER", "SLOWER", "BETTER", "WORSE", "AMBIGUOUS", "NOT JUDGED"]

REGRESSIONS: tuple[Verdict, ...] = ("SLOWER", "WORSE")

#: Relative difference of costs below which they count as equal: half of the slowdown that must be found, so that a
#: false alarm and a miss are about as rare (docs/results.md has the figures).
MARGIN = 0.05
#: Relative difference that is told where numbers are exact (a simulated clock).
EXACT_MARGIN = 0.001

_LARGEST_LOGARITHM = 700.0


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


def compare_figure(name: str, a: Figure, b: Figure, simulated: bool) -> FigureComparison:
    """Judge a figure: by its rounds where it has them, else by its value; exactly where the clock is simulated."""
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
    if is_beyond_counting(a) or is_beyond_counting(b):
        return _Judgement("AMBIGUOUS", "has numbers of a size that no clock and no count gives")
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
        *(_exponential(bound) for bound in (moved.value, moved.low, moved.high)),
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


def _exponential(logarithm: float) -> float:
    """As far as there are numbers: the interval of two rounds can be wider than those."""
    return math.exp(min(logarithm, _LARGEST_LOGARITHM))


def _tolerance(a: Figure, b: Figure) -> float:
    return max(a.tolerance, b.tolerance)


def _ratio(a: Figure, b: Figure) -> float | None:
    return b.value / a.value if a.value > 0 and b.value > 0 else None


def _has_interval(figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None


def _encloses(figure: Figure, value: float) -> bool:
    return figure.low is not None and figure.high is not None and figure.low <= value <= figure.high
