"""Predict what a network of given widths costs: a fixed part and the sum of its workloads' entries in the table.

Every workload's place in the table is a linear function of the widths, so that many networks are looked up with one
matrix product and one gather, without touching torch or building anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netadapt.network.plan import LinearForm, Plan, PlannedWorkload, Widths
from netadapt.network.workload import EMPTY_RUN, Workload

#: Gives the cost of each workload in the metric's unit (ns), measuring it first where necessary.
CostSource = Callable[[Sequence[Workload]], Mapping[Workload, int]]

#: Mean error on the very networks a correction was fitted on above which something else was going on.
_WORST_RESIDUAL = 0.05
#: A workload of more possible combinations of channel counts than this is looked up one by one (long concats).
_MOST_CELLS = 1 << 22


@dataclass(frozen=True, slots=True)
class Correction:
    """What whole networks cost beyond the sum of their layers: `scale * (fixed part + layers) + offset`.

    Fitted on `networks` whole-network measurements whose mean absolute error it left at `residual` (relative).
    The default corrects nothing.
    """

    scale: float = 1.0
    offset: float = 0.0
    networks: int = 0
    residual: float = 0.0

    @property
    def explains(self) -> bool:
        """Whether the corrected prediction agrees with what it was fitted on, within 5 % on average."""
        return self.residual <= _WORST_RESIDUAL


class Estimator:
    """Predicted cost of a plan at widths out of `allowed`, in the unit of the costs (ns for latency).

    `costs` is asked for each workload once, in batches. Looking up does not copy, so one estimator serves one thread.
    """

    def __init__(
        self,
        plan: Plan,
        allowed: Mapping[str, Sequence[int]],
        costs: CostSource,
        correction: Correction | None = None,
    ) -> None:
        self.plan = plan
        self.correction = correction or Correction()
        self._costs = costs
        self._order = tuple(plan.original)
        axes = [_axes(step, allowed) for step in plan.steps]
        self._dense = [index for index, step in enumerate(axes) if _cells(step) <= _MOST_CELLS]
        self._sparse = [index for index, step in enumerate(axes) if _cells(step) > _MOST_CELLS]
        self._offsets, self._weights, size = self._layout([axes[index] for index in self._dense])
        self._table = np.full(size, np.nan)
        self._known: dict[Workload, float] = {}
        self._empty_run: float | None = None

    def __call__(self, widths: Widths) -> float:
        """The predicted cost of one network."""
        vector = np.array([widths[group] for group in self._order], dtype=np.float64)
        return float(self._predict(vector[None, :])[0])

    def many(self, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """The predicted costs `[M]` of the rows of `widths` `[M, G]`, whose columns follow `plan.original`."""
        return self._predict(widths.astype(np.float64))

    def layers(self, widths: Widths) -> tuple[tuple[Workload, float], ...]:
        """Each workload of the network with its part of the prediction, before the correction."""
        workloads = self.plan.at(widths)
        self.ensure([widths])
        costs = self._costs(workloads)
        return tuple((workload, max(costs[workload] - self.fixed_part, 0.0)) for workload in workloads)

    @property
    def fixed_part(self) -> float:
        """What a run costs that computes nothing; it is in every entry of the table, but once in a network."""
        if self._empty_run is None:
            self._empty_run = float(self._costs([EMPTY_RUN])[EMPTY_RUN])
        return self._empty_run

    def ensure(self, candidates: Iterable[Widths]) -> None:
        """Fetch all costs that predicting `candidates` takes in one batch, so that they are measured together."""
        rows = [[widths[group] for group in self._order] for widths in candidates]
        if rows:
            self._fetch(np.array(rows, dtype=np.float64))

    def _predict(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        costs = self._table.take(self._cells(vectors)).sum(axis=1)
        if self._sparse or np.isnan(costs).any():
            self._fetch(vectors)
            costs = self._table.take(self._cells(vectors)).sum(axis=1) + self._sparse_sum(vectors)
        corrected: NDArray[np.float64] = self.correction.scale * (self.fixed_part + costs) + self.correction.offset
        return corrected

    def _cells(self, vectors: NDArray[np.float64]) -> NDArray[np.int64]:
        """Place in the table of each dense workload, `[M, dense workloads]`."""
        return np.rint(vectors @ self._weights + self._offsets).astype(np.int64)

    def _layout(self, axes: Sequence[tuple[_Axis, ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Lay the workloads' arrays one after another; a cell's place is `offsets + widths @ weights`."""
        position = {group: row for row, group in enumerate(self._order)}
        offsets = np.zeros(len(axes))
        weights = np.zeros((len(self._order), len(axes)))
        end = 0
        for column, step in enumerate(axes):
            offsets[column] = end
            stride = 1
            for axis in step:
                factor = stride / axis.quantum
                offsets[column] += factor * (axis.form.constant - axis.lowest)
                for group, coefficient in axis.form.coefficients:
                    weights[position[group], column] += factor * coefficient
                stride *= axis.length
            end += stride
        return offsets, weights, end

    def _fetch(self, vectors: NDArray[np.float64]) -> None:
        cells = self._missing_dense(vectors)
        sparse = [
            self.plan.steps[index].at(widths)
            for widths in (self._widths(vector) for vector in vectors if self._sparse)
            for index in self._sparse
        ]
        # Two steps can come to the same workload.
        wanted = [workload for workload in dict.fromkeys([*cells.values(), *sparse]) if workload not in self._known]
        if wanted:
            costs = self._costs([*dict.fromkeys([EMPTY_RUN, *wanted])])
            self._empty_run = float(costs[EMPTY_RUN])
            # A layer never takes less than nothing, whatever the noise of two tiny measurements.
            self._known.update({workload: max(costs[workload] - self._empty_run, 0.0) for workload in wanted})
        for cell, workload in cells.items():
            self._table[cell] = self._known[workload]

    def _missing_dense(self, vectors: NDArray[np.float64]) -> dict[int, Workload]:
        cells = self._cells(vectors)
        rows, columns = np.nonzero(np.isnan(self._table[cells]))
        _, firsts = np.unique(cells[rows, columns], return_index=True)
        missing = {}
        for row, column in zip(rows[firsts].tolist(), columns[firsts].tolist(), strict=True):
            step = self.plan.steps[self._dense[column]]
            missing[int(cells[row, column])] = step.at(self._widths(vectors[row]))
        return missing

    def _sparse_sum(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._sparse:
            return np.zeros(len(vectors))
        return np.array(
            [
                sum(self._known[self.plan.steps[index].at(widths)] for index in self._sparse)
                for widths in map(self._widths, vectors)
            ]
        )

    def _widths(self, vector: NDArray[np.float64]) -> dict[str, int]:
        return dict(zip(self._order, vector.astype(int).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Possible values of one channel count: `lowest + i * quantum` for `i < length`."""

    form: LinearForm
    lowest: int
    quantum: int
    length: int


def _axes(step: PlannedWorkload, allowed: Mapping[str, Sequence[int]]) -> tuple[_Axis, ...]:
    """The channel counts on which the workload depends, one axis each."""
    forms = [*step.in_channels, step.out_channels, step.conv_groups]
    if step.template.op == "concat":
        forms = list(step.in_channels)  # its output is their sum
    return tuple(_axis(form, allowed) for form in dict.fromkeys(forms) if form.coefficients)


def _axis(form: LinearForm, allowed: Mapping[str, Sequence[int]]) -> _Axis:
    lowest = highest = form.constant
    quantum = 0
    for group, coefficient in form.coefficients:
        choices = allowed[group]
        ends = (coefficient * min(choices), coefficient * max(choices))
        lowest += min(ends)
        highest += max(ends)
        quantum = math.gcd(quantum, *(coefficient * (choice - choices[0]) for choice in choices))
    quantum = quantum or 1
    return _Axis(form, lowest, quantum, (highest - lowest) // quantum + 1)


def _cells(axes: tuple[_Axis, ...]) -> int:
    return math.prod(axis.length for axis in axes)
