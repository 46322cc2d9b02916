"""Fill a table: measure what it lacks, and notice when the machine changes meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.measure.measurement import Measurement
from netadapt.measure.protocol import Clock, Instant, thread_clock
from netadapt.network.workload import Workload

#: Measured again and again to see whether the machine still runs as fast as before.
REFERENCE = Workload("conv", (64,), 64, (14, 14), bias=True, activation="relu")

#: Workloads between two measurements of the reference.
SPAN = 20
#: Relative change of the reference above which a span is measured again.
DRIFT = 0.05
#: How often a span is measured again, if there is time for that, before it is kept as "contended".
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
    #: In the table with the status "contended".
    contended: int
    #: Last measurement of the reference divided by the table's; None when nothing was measured.
    reference_ratio: float | None


def fill(
    table: Table,
    device: Device,
    workloads: Iterable[Workload],
    metric: str = "latency",
    on_progress: OnProgress | None = None,
    clock: Clock = thread_clock,
    remeasure: bool = True,
) -> FillReport:
    """Measure the workloads that the table lacks and store each at once; a killed fill can simply be started again.

    They are measured in a shuffled order, always the same, so that neighbours in a network do not share a moment's
    disturbance. After each span of 20 a reference workload is measured: when it is more than 5 % slower than the
    table's value, the span is measured again, twice at most. On a machine that stays slow, its values are divided by
    how much slower the reference was, and kept with the status "contended". What is "contended" in the table is
    measured again when it is asked for on a machine that is less busy.

    Repetitions end when as much time was lost to other processes as was spent on measurements that count, so that
    filling takes about twice as long as on a quiet machine at most.

    Args:
        table: what to fill.
        device: what measures.
        workloads: what the table is to have.
        metric: the metric that is needed; others that the device measures at the same time are stored too.
        on_progress: hears of each workload that was measured.
        clock: of the calling thread.
        remeasure: whether what is "contended" is measured again at all.

    Raises:
        UnknownNameError: the platform does not offer the metric.
        MeasurementError, TableError: measuring or storing failed; what was stored before stays.

    """
    device.require_metric(metric)
    wanted = list(dict.fromkeys(workloads))
    there = table.get_many(device.fingerprint, wanted, metric)
    missing = [workload for workload in wanted if workload not in there]
    doubtful = [workload for workload in wanted if remeasure and workload in there and not _is_settled(there[workload])]
    filling = _Filling(table, device, metric, on_progress, clock)
    left = filling.measure_all(missing, doubtful)
    return FillReport(
        requested=len(wanted),
        present=len(wanted) - filling.measured,
        measured=filling.measured,
        repeated=filling.repeated,
        contended=filling.contended + len(left),
        reference_ratio=filling.reference_ratio,
    )


@dataclass
class _Effort:
    """Where the time of measuring went: into measurements that count, or to other processes and repetitions."""

    spent_ns: float = 0.0
    lost_ns: float = 0.0

    @property
    def affords_repetition(self) -> bool:
        return self.lost_ns < self.spent_ns

    def add(self, before: Instant, after: Instant, clean_fraction: float, here: bool, again: bool) -> None:
        """Count a measurement; `here` says that it ran in this thread, whose CPU time then is what it would take."""
        wall_ns = after.wall_ns - before.wall_ns
        useful_ns = min(wall_ns, after.cpu_ns - before.cpu_ns) if here else wall_ns * clean_fraction
        self.spent_ns += 0 if again else useful_ns
        self.lost_ns += wall_ns if again else wall_ns - useful_ns


class _Filling:
    """The state of one call of `fill`."""

    def __init__(self, table: Table, device: Device, metric: str, on_progress: OnProgress | None, clock: Clock) -> None:
        self._table = table
        self._device = device
        self._metric = metric
        self._on_progress = on_progress
        self._clock = clock
        self._effort = _Effort()
        self._total = 0
        self._done: set[Workload] = set()
        self._watching = device.platform.tier in _REAL_CLOCKS
        self._reference: int | None = None
        self.reference_ratio: float | None = None
        self.measured = 0
        self.repeated = 0
        self.contended = 0

    def measure_all(self, missing: list[Workload], doubtful: list[Workload]) -> list[Workload]:
        """Measure what is missing, and what is doubtful if there is hope of better; the doubtful that is left."""
        if not missing and not doubtful:
            return []
        if self._watching:
            self._reference = self._first_reference()
        left = doubtful if doubtful and self._is_disturbed() else []
        workloads = missing if left else missing + doubtful
        self._total = len(workloads)
        random.Random(0).shuffle(workloads)
        for start in range(0, len(workloads), SPAN):
            self._span(workloads[start : start + SPAN])
        return left

    def _span(self, workloads: Sequence[Workload]) -> None:
        """Measure a span, again while the machine was not the same before and after."""
        measured = dict(self._measure(workloads))
        self.measured += len(measured)
        slowdown = self._drift() if measured else 1.0
        redos = 0
        while slowdown != 1 and redos < REDOS and self._effort.affords_repetition:
            redos += 1
            self.repeated += len(measured)
            measured = dict(self._measure(list(measured), again=True))
            slowdown = self._drift()
        if slowdown != 1:
            # Where the reference has become faster, it is unknown by how much each of these is too slow.
            measured = {workload: cost.contended(max(1.0, slowdown)) for workload, cost in measured.items()}
            for workload, measurement in measured.items():
                self._table.put(workload, measurement)
        self.contended += sum(not _is_settled(measurement) for measurement in measured.values())

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
                    yield workload, self._costs_of(workload, again)

    def _costs_in_parallel(
        self, workloads: Sequence[Workload], again: bool
    ) -> Iterator[tuple[Workload, dict[str, Measurement]]]:
        pool = ThreadPoolExecutor(self._device.capacity)
        try:
            wanted = [workload for workload in workloads if again or not self._is_stored(workload)]
            futures = {pool.submit(self._costs_of, workload, again): workload for workload in wanted}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _costs_of(self, workload: Workload, again: bool) -> dict[str, Measurement]:
        costs = self._timed(workload, again)
        if all(_is_settled(measurement) for measurement in costs.values()) or not self._effort.affords_repetition:
            return costs
        self.repeated += 1
        repeated = self._timed(workload, again=True)
        metric = self._metric
        better = _is_settled(repeated[metric]) or repeated[metric].value < costs[metric].value
        return repeated if better else costs

    def _timed(self, workload: Workload, again: bool) -> dict[str, Measurement]:
        before = self._clock()
        costs = self._device.workload_costs(workload)
        here = self._device.platform.tier == "local"
        self._effort.add(before, self._clock(), costs[self._metric].clean_fraction, here, again)
        return costs

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
        """Cost of the reference when the table was begun; measured now if it is new or doubtful."""
        stored = self._table.get(self._device.fingerprint, REFERENCE, self._metric)
        if stored and _is_settled(stored):
            return stored.value
        # One more try for a doubtful one, so that a machine that is always busy does not pay for several each time.
        tries = [stored] if stored else []
        for _ in range(1 if stored else _REFERENCE_TRIES):
            tries.append(self._device.measure_workload(REFERENCE, self._metric))
        best = min(tries, key=lambda measurement: (not _is_settled(measurement), measurement.value))
        self._table.put(REFERENCE, best)
        return best.value

    def _is_disturbed(self) -> bool:
        """Whether the machine is so busy now that what is doubtful would not become better."""
        if self._reference is None:
            return False
        now = self._device.measure_workload(REFERENCE, self._metric)
        return not _is_settled(now) or now.value > (1 + DRIFT) * self._reference

    def _drift(self) -> float:
        """The cost of the reference now, divided by the table's; 1 within the tolerance."""
        if self._reference is None:
            return 1.0
        now = self._device.measure_workload(REFERENCE, self._metric)
        ratio = self.reference_ratio = now.value / self._reference
        if ratio < 1 / (1 + DRIFT):
            # The reference itself was taken at a bad moment: nothing makes a machine faster than it is. What was
            # measured by it is measured again when it is asked for the next time.
            self._reference = now.value
            self._table.distrust(self._device.fingerprint)
            self._table.put(REFERENCE, now)
            return ratio
        # A reference that was itself measured among others may be that much too slow.
        uncertain = 0.0 if _is_settled(now) else now.relative_half_width or 0.0
        return ratio if ratio > 1 + DRIFT + uncertain else 1.0


def _is_settled(measurement: Measurement) -> bool:
    return measurement.status != "contended"
