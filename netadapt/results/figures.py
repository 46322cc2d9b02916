"""What can be wrong with a single figure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from netadapt.measure import statistics
from netadapt.measure.measurement import DOUBTFUL, Tier
from netadapt.results.schema import Figure

#: Units in which lower is faster.
TIME_UNITS = ("ns", "s")
#: Units of which a share is lost or won, whatever the size of the network.
COST_UNITS = (*TIME_UNITS, "pJ")
UNITS = (*COST_UNITS, "bytes", "ratio", "share", "count")
#: Origins of figures that a clock has a part in, so that a busy machine shows in them.
CLOCKED_ORIGINS = ("measured", "predicted", "derived")
#: Units of what there cannot be less than none of.
_NEVER_NEGATIVE = (*COST_UNITS, "bytes", "ratio", "count")

#: A normal sample's standard deviation by its median absolute deviation, and its median's standard error by that.
_DEVIATION, _MEDIAN_ERROR = 1.4826, 1.2533
#: Half of a 95 % interval is about two standard errors; by chance it is half of one very rarely.
_NARROWEST = 0.5
_FEWEST_FOR_SPREAD = 5
_SMALLEST = 1e-30


def faults_of_figure(figure: Figure, tier: Tier) -> list[str]:
    """What is wrong with a figure of a platform of some tier, in words."""
    if is_beyond_counting(figure):
        return [f"has numbers that are not 0 and not of a size between {_SMALLEST:g} and {1 / _SMALLEST:g}"]
    return [*_of_value(figure), *_of_interval(figure), *_of_samples(figure, tier), *_of_reference(figure)]


def is_beyond_counting(figure: Figure) -> bool:
    """Whether a number is of a size that no clock and no count gives, and whose square or quotient may be none."""
    numbers = (figure.value, figure.low, figure.high, figure.tolerance, *figure.samples, *figure.reference_ns)
    return any(number and not _SMALLEST <= abs(number) <= 1 / _SMALLEST for number in numbers)


def is_noisy(figure: Figure) -> bool:
    """Whether the machine was too busy to know the figure well."""
    return figure.status in DOUBTFUL


def _of_value(figure: Figure) -> Iterator[str]:
    if figure.unit not in UNITS:
        yield f"unknown unit {figure.unit!r}; known: {', '.join(UNITS)}"
    if figure.unit in _NEVER_NEGATIVE and figure.value < 0:
        yield f"{figure.value:g} {figure.unit} is negative"
    if figure.samples and not math.isclose(figure.value, statistics.median(figure.samples), rel_tol=1e-9):
        yield f"value {figure.value:g} is not the median of its samples, {statistics.median(figure.samples):g}"


def _of_interval(figure: Figure) -> Iterator[str]:
    if figure.low is None or figure.high is None:
        if (figure.low is None) != (figure.high is None):
            yield "has one end of an interval without the other"
        return
    if not figure.low <= figure.value <= figure.high:
        yield f"value {figure.value:g} is outside its own interval, {figure.low:g} to {figure.high:g}"
    if len(figure.samples) >= _FEWEST_FOR_SPREAD:
        spread = _DEVIATION * statistics.median_absolute_deviation(figure.samples)
        error = _MEDIAN_ERROR * spread / math.sqrt(len(figure.samples))
        if (figure.high - figure.low) / 2 < _NARROWEST * error:
            yield f"interval {figure.low:g} to {figure.high:g} is narrower than its samples' spread allows"


def _of_samples(figure: Figure, tier: Tier) -> Iterator[str]:
    if figure.unit in COST_UNITS and figure.samples and min(figure.samples) <= 0:
        yield "has samples that are not positive"
    clocked = figure.unit in COST_UNITS and figure.origin == "measured"
    if clocked and tier == "simulated" and len(set(figure.samples)) > 1:
        yield "has samples that differ, but a simulated clock repeats itself exactly"
    if clocked and tier == "emulated":
        yield "is a cost measured on an emulated platform, which has no clock"


def _of_reference(figure: Figure) -> Iterator[str]:
    if not figure.reference_ns:
        return
    if len(figure.reference_ns) != len(figure.samples):
        yield f"has {len(figure.samples)} samples and {len(figure.reference_ns)} of the reference, not one for each"
    if min(figure.reference_ns) <= 0:
        yield "has costs of the reference that are not positive"
