"""Amounts as people read them: base units scaled, shares in percent, numbers and units never parted by a line break."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Keeps a number and its unit on one line.
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"
#: Where there is no value.
NONE = "\N{EM DASH}"

_STEPS = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "\N{MICRO SIGN}s"), (1, "ns")),
    "s": ((1, "s"), (1e-3, "ms")),
    "pJ": ((1e9, "mJ"), (1e6, "\N{MICRO SIGN}J"), (1e3, "nJ"), (1, "pJ")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")),
    "macs": ((1e9, "G MACs"), (1e6, "M MACs"), (1e3, "k MACs"), (1, "MACs")),
    "params": ((1e6, "M parameters"), (1e3, "k parameters"), (1, "parameters")),
}

#: Base unit of each metric that a search can limit.
METRIC_UNITS = {"latency": "ns", "energy": "pJ", "macs": "macs", "params": "params"}


@dataclass(frozen=True, slots=True)
class Scale:
    """A unit that values are shown in, and how much of the base unit one of it is."""

    divisor: float
    unit: str

    def __call__(self, value: float) -> float:
        """The value in this unit."""
        return value / self.divisor

    def number(self, value: float) -> str:
        """Three significant digits or more, without the unit."""
        return number(value / self.divisor)

    def text(self, value: float) -> str:
        """With the unit."""
        return f"{self.number(value)}{SPACE}{self.unit}"


def scale_for(values: Iterable[float], unit: str) -> Scale:
    """The scale in which the largest of `values`, in the base `unit`, is at least 1."""
    largest = max((abs(value) for value in values), default=0.0)
    steps = _STEPS.get(unit, ((1, unit),))
    return next((Scale(*step) for step in steps if largest >= step[0]), Scale(*steps[-1]))


def number(value: float) -> str:
    """A number with three significant digits, or all that stand before the point."""
    magnitude = abs(value)
    if value == round(value) and magnitude < 1e15 and magnitude >= 100:
        return signed(f"{value:,.0f}")
    if magnitude == 0:
        return "0"
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 else 3
    return signed(f"{value:,.{digits}f}")


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return signed(f"{100 * share:.{digits}f}{SPACE}%")


def change(share: float, digits: int = 1) -> str:
    """A relative difference as percent, always with its sign."""
    return signed(f"{100 * share:+.{digits}f}{SPACE}%")


def points(difference: float) -> str:
    """A difference of two accuracies in percentage points, with its sign."""
    return signed(f"{100 * difference:+.2f}{SPACE}points")


def ratio(value: float) -> str:
    """A factor such as a speed-up."""
    return f"{value:.2f}{TIMES}"


def signed(text: str) -> str:
    """The text with real minus signs."""
    return text.replace("-", MINUS)


def quantity(value: float, unit: str) -> str:
    """A value in one of the units of a results file."""
    if unit == "share":
        return percent(value, 2)
    if unit == "ratio":
        return ratio(value)
    if unit == "count":
        return number(value) if value != round(value) else f"{value:,.0f}"
    return scale_for([value], unit).text(value)


def quantity_range(low: float, high: float, unit: str) -> str:
    """An interval, from the lower to the upper end."""
    return f"{quantity(low, unit)} to {quantity(high, unit)}"
