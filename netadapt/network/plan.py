"""The network as a list of workloads whose channel sizes are linear in the widths.

`Plan.at(widths)` gives the workloads of the network narrowed to `widths` without building that network and without
torch; this is what makes a prediction cheap. The linear forms are not derived from graph rules but read off: the
network is narrowed in one channel group at a time, and what changes in its workloads is the group's coefficient.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from netadapt.network.workload import Workload

Widths = Mapping[str, int]


class NotLinearError(ValueError):
    """A size that does not follow the widths linearly, so that no plan can describe it."""


@dataclass(frozen=True, slots=True)
class LinearForm:
    """`(constant + sum(coefficient * widths[group])) / divisor`: a channel count as a function of the widths.

    The divisor is 1 but for the input side of grouped convolutions, whose filters read `in_channels / groups`.
    """

    constant: int
    coefficients: tuple[tuple[str, int], ...] = ()
    divisor: int = 1

    def at(self, widths: Widths) -> int:
        """The channel count at `widths`."""
        total = self.constant + sum(coefficient * widths[group] for group, coefficient in self.coefficients)
        return total // self.divisor

    @property
    def groups(self) -> tuple[str, ...]:
        """The channel groups that the count depends on."""
        return tuple(group for group, _ in self.coefficients)


@dataclass(frozen=True, slots=True)
class PlannedWorkload:
    """A workload whose channel counts and convolution groups are linear forms; all other fields are fixed."""

    template: Workload
    in_channels: tuple[LinearForm, ...]
    out_channels: LinearForm
    conv_groups: LinearForm

    def at(self, widths: Widths) -> Workload:
        """The workload at `widths`."""
        return replace(
            self.template,
            in_channels=tuple(form.at(widths) for form in self.in_channels),
            out_channels=self.out_channels.at(widths),
            groups=self.conv_groups.at(widths),
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The channel groups that the workload depends on, without repetition."""
        forms = (*self.in_channels, self.out_channels, self.conv_groups)
        return tuple(dict.fromkeys(group for form in forms for group in form.groups))


@dataclass(frozen=True)
class Plan:
    """All workloads of a network in order of execution, and the shapes of its parameters, as functions of widths.

    `unknown` names executed operations that are not modelled as workloads; what they cost is part of the fixed part
    of the estimate.
    """

    original: dict[str, int]
    steps: tuple[PlannedWorkload, ...]
    parameters: tuple[tuple[LinearForm, ...], ...]
    unknown: tuple[str, ...] = ()

    def at(self, widths: Widths) -> tuple[Workload, ...]:
        """The workloads of the network narrowed to `widths`."""
        return tuple(step.at(widths) for step in self.steps)

    def macs(self, widths: Widths) -> int:
        """Multiply-accumulates of one run at `widths`."""
        return sum(workload.macs for workload in self.at(widths))

    @property
    def digest(self) -> str:
        """Hash of everything that the costs follow from, 16 hexadecimal digits; weights do not count."""
        text = repr((sorted(self.original.items()), self.steps, self.unknown))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def params(self, widths: Widths) -> int:
        """Number of trainable parameters at `widths`, batch-norm's scale and shift included."""
        return sum(math.prod(form.at(widths) for form in shape) for shape in self.parameters)


@dataclass(frozen=True)
class Observation:
    """What one (possibly narrowed) network looks like: its widths, workloads and parameter shapes."""

    widths: dict[str, int]
    workloads: tuple[Workload, ...]
    parameters: tuple[tuple[int, ...], ...]
    unknown: tuple[str, ...] = ()


def fit_plan(base: Observation, narrowed: Mapping[str, Observation]) -> Plan:
    """The plan that explains `base` and, for each group, the network narrowed in that group alone.

    Raises `NotLinearError` if a field other than a channel count changed, or the number of parameters.
    """
    for observation in narrowed.values():
        check_same_structure(base, observation)
    fit = _Fit(base, narrowed)
    steps = tuple(
        PlannedWorkload(
            workload,
            fit.forms([seen.workloads[index].in_channels for seen in fit.observations], workload.in_channels),
            fit.form([seen.workloads[index].out_channels for seen in fit.observations], workload.out_channels),
            fit.form([seen.workloads[index].groups for seen in fit.observations], workload.groups),
        )
        for index, workload in enumerate(base.workloads)
    )
    parameters = tuple(
        fit.forms([seen.parameters[index] for seen in fit.observations], shape)
        for index, shape in enumerate(base.parameters)
    )
    return Plan(dict(base.widths), steps, parameters, base.unknown)


def check_same_structure(base: Observation, narrowed: Observation) -> None:
    """Raise `NotLinearError` unless both have the same operations and parameters and differ in channel counts only."""
    if base.unknown != narrowed.unknown or len(base.workloads) != len(narrowed.workloads):
        raise NotLinearError("narrowing it changes which operations the network executes")
    for before, after in zip(base.workloads, narrowed.workloads, strict=True):
        same = replace(after, in_channels=before.in_channels, out_channels=before.out_channels, groups=before.groups)
        if same != before or len(before.in_channels) != len(after.in_channels):
            raise NotLinearError(f"narrowing it changes more than channel counts: {before} becomes {after}")
    if [len(shape) for shape in base.parameters] != [len(shape) for shape in narrowed.parameters]:
        raise NotLinearError("narrowing it changes which parameters there are (do layers share a weight?)")


class _Fit:
    """Reads the coefficients of linear forms off observations that each differ from the base in one width."""

    def __init__(self, base: Observation, narrowed: Mapping[str, Observation]) -> None:
        self._base = base.widths
        self._change = {group: seen.widths[group] - base.widths[group] for group, seen in narrowed.items()}
        self.observations = tuple(narrowed.values())

    def forms(self, seen: Sequence[tuple[int, ...]], base: tuple[int, ...]) -> tuple[LinearForm, ...]:
        columns: Iterable[tuple[int, ...]] = zip(*seen, strict=True) if seen else [()] * len(base)
        return tuple(self.form(column, value) for column, value in zip(columns, base, strict=True))

    def form(self, seen: Sequence[int], base: int) -> LinearForm:
        slopes = {
            group: Fraction(value - base, change)
            for (group, change), value in zip(self._change.items(), seen, strict=True)
            if value != base
        }
        divisor = math.lcm(*(slope.denominator for slope in slopes.values()))
        coefficients = tuple((group, int(slope * divisor)) for group, slope in slopes.items())
        constant = base * divisor - sum(coefficient * self._base[group] for group, coefficient in coefficients)
        return LinearForm(constant, coefficients, divisor)
