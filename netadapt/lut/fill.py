"""Fill a table: measure what it lacks, and notice when the machine changes meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.measure.measurement import Measurement
from netadapt.network.workload import Workload

#: Measured again and again to see whether the machine still runs as fast as before.
REFERENCE = Workload("conv", (64,), 64, (14, 14), bias=True, activation="relu")

#: Workloads between two measurements of the reference.
SPAN = 20
#: Relative change of the reference above which a span is measured again.
DRIFT = 0.05
#: How often a span is measured again before it is kept as "contended".
REDOS = 2
#: Measurements of which the fastest becomes the table's reference: contention only ever adds time.
_REFERENCE_TRIES = 3
#: Tiers whose clock is real, so that the machine can be disturbed.
_REAL_CLOCKS = ("local", "device")

#: Called after each workload: how many are done, of how many, which one, and what it costs.
OnProgress = Callable[[int, int, Workload, Measurement], None]


@dataclass(frozen=True, slots=True)
class FillReport:
    """What filling a table took; numbers of workloads unless said otherwise."""

    requested: int
    #: In the table before, or put there meanwhile by another process.
    present: int
    measured: int
    #: Measured again because of contention or drift (number of measurements).
    repeated: int
    #: Left in the table with the status "contended".
    contended: int
    #: Last measurement of the reference divided by the table's; None when nothing was measured.
    reference_ratio: float | None


def fill(
    table: Table,
    device: Device,
    workloads: Iterable[Workload],
    metric: str = "latency",
    on_progress: OnProgress | None = None,
) -> FillReport:
    """Measure the workloads that the table lacks and store each at once; a killed fill can simply be started again.

    They are measured in a shuffled order, always the same, so that neighbours in a network do not share a moment's
    disturbance. After each span of 20 a reference workload is measured: when it differs from the table's value by
    more than 5 %, the span is measured again, twice at most, and then kept with the status "contended". What is
    "contended" in the table is measured again when it is asked for the next time.

    Raises:
        UnknownNameError: the platform does not offer the metric.
        MeasurementError, TableError: measuring or storing failed; what was stored before stays.

    """
    device.require_metric(metric)
    wanted = list(dict.fromkeys(workloads))
    there = table.get_many(device.fingerprint, wanted, metric)
    missing = [workload for workload in wanted if not _is_settled(there.get(workload))]
    random.Random(0).shuffle(missing)
    filling = _Filling(table, device, metric, on_progress, total=len(missing))
    for start in range(0, len(missing), SPAN):
        filling.span(missing[start : start + SPAN])
    return FillReport(
        requested=len(wanted),
        present=len(wanted) - filling.measured,
        measured=filling.measured,
        repeated=filling.repeated,
        contended=filling.contended,
        reference_ratio=filling.reference_ratio,
    )


class _Filling:
    """The state of one call of `fill`."""

    def __init__(self, table: Table, device: Device, metric: str, on_progress: OnProgress | None, total: int) -> None:
        self._table = table
        self._device = device
        self._metric = metric
        self._on_progress = on_progress
        self._total = total
        self._done: set[Workload] = set()
        self._watching = total > 0 and device.platform.tier in _REAL_CLOCKS
        self._reference = self._first_reference() if self._watching else None
        self.reference_ratio: float | None = None
        self.measured = 0
        self.repeated = 0
        self.contended = 0

    def span(self, workloads: Sequence[Workload]) -> None:
        """Measure a span, again while the machine was not the same before and after."""
        measured = dict(self._measure(workloads))
        self.measured += len(measured)
        for _ in range(REDOS):
            if not measured or not self._has_drifted():
                break
            self.repeated += len(measured)
            measured = dict(self._measure(list(measured), again=True))
        else:
            if self._has_drifted():
                for workload, measurement in measured.items():
                    measured[workload] = measurement.with_status("contended")
                    self._table.put(workload, measured[workload])
        self.contended += sum(measurement.status == "contended" for measurement in measured.values())

    def _measure(self, workloads: Sequence[Workload], again: bool = False) -> Iterator[tuple[Workload, Measurement]]:
        """Measure and store; what another process has stored meanwhile is left out."""
        for workload, costs in self._costs(workloads, again):
            for measurement in costs.values():
                self._table.put(workload, measurement)
            self._report(workload, costs[self._metric])
            yield workload, costs[self._metric]

    def _costs(self, workloads: Sequence[Workload], again: bool) -> Iterator[tuple[Workload, dict[str, Measurement]]]:
        if self._device.capacity > 1:
            yield from self._costs_in_parallel(workloads, again)
            return
        for workload in workloads:
            # Looked up under the lock: whoever held it before may have measured this very workload.
            with self._device.exclusive():
                if again or not self._is_stored(workload):
                    yield workload, self._costs_of(workload)

    def _costs_in_parallel(
        self, workloads: Sequence[Workload], again: bool
    ) -> Iterator[tuple[Workload, dict[str, Measurement]]]:
        pool = ThreadPoolExecutor(self._device.capacity)
        try:
            wanted = [workload for workload in workloads if again or not self._is_stored(workload)]
            futures = {pool.submit(self._costs_of, workload): workload for workload in wanted}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _costs_of(self, workload: Workload) -> dict[str, Measurement]:
        costs = self._device.workload_costs(workload)
        if all(measurement.status != "contended" for measurement in costs.values()):
            return costs
        self.repeated += 1
        return self._device.workload_costs(workload)

    def _is_stored(self, workload: Workload) -> bool:
        measurement = self._table.get(self._device.fingerprint, workload, self._metric)
        if measurement is None or not _is_settled(measurement):
            return False
        self._report(workload, measurement)
        return True

    def _report(self, workload: Workload, measurement: Measurement) -> None:
        self._done.add(workload)
        if self._on_progress:
            self._on_progress(len(self._done), self._total, workload, measurement)

    def _first_reference(self) -> int:
        """Cost of the reference when the table was begun; measured now if it is new."""
        stored = self._table.get(self._device.fingerprint, REFERENCE, self._metric)
        if stored and stored.status != "contended":
            return stored.value
        tries = [self._device.measure_workload(REFERENCE, self._metric) for _ in range(_REFERENCE_TRIES)]
        best = min(tries, key=lambda measurement: measurement.value)
        self._table.put(REFERENCE, best)
        return best.value

    def _has_drifted(self) -> bool:
        if self._reference is None:
            return False
        now = self._device.measure_workload(REFERENCE, self._metric)
        self.reference_ratio = now.value / self._reference
        if self.reference_ratio < 1 / (1 + DRIFT):
            # The reference itself was taken at a bad moment: nothing makes a machine faster than it is. What was
            # measured by it is measured again when it is asked for the next time.
            self._reference = now.value
            self._table.distrust(self._device.fingerprint)
            self._table.put(REFERENCE, now)
            return True
        return self.reference_ratio > 1 + DRIFT


def _is_settled(measurement: Measurement | None) -> bool:
    return measurement is not None and measurement.status != "contended"
