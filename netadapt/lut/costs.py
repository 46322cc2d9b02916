"""Where the estimator's costs come from: the table, and the device for what the table lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from netadapt.errors import TableError
from netadapt.lut.fill import FillReport, OnProgress, fill
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.workload import Workload

#: Share of contended measurements above which the machine is too busy, and how many it takes to say so.
_BUSY = 0.25
_FEWEST = 12


@dataclass
class MeasuredCosts:
    """Costs of workloads in one metric on one device; the cost of a workload is the same whenever it is asked for.

    `measured` counts the measurements that this object spent, `seconds` is the wall time that they took. `on_busy`
    hears, once, that the machine is too busy to be measured well, and what that means.
    """

    table: Table
    device: Device
    metric: str = "latency"
    on_progress: OnProgress | None = None
    on_busy: Callable[[str], None] | None = None
    #: Whether contended entries of the table are measured again. Not in a run that is resumed: its networks were chosen
    #: by those.
    remeasure: bool = True
    measured: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    _known: dict[Workload, int] = field(default_factory=dict, init=False)
    _workloads: int = field(default=0, init=False)
    _contended: int = field(default=0, init=False)

    def __call__(self, workloads: Sequence[Workload]) -> Mapping[Workload, int]:
        """Costs in the metric's unit (ns, pJ); what the table lacks is measured and stored first.

        Raises:
            MeasurementError, TableError: measuring or storing failed.

        """
        new = [workload for workload in dict.fromkeys(workloads) if workload not in self._known]
        if new:
            self._known.update(self._fetched(new))
        return {workload: self._known[workload] for workload in workloads}

    def _fetched(self, workloads: Sequence[Workload]) -> dict[Workload, int]:
        started = time.perf_counter()
        report = fill(self.table, self.device, workloads, self.metric, self.on_progress, remeasure=self.remeasure)
        if spent := report.measured + report.repeated:
            self.measured += spent
            self.seconds += time.perf_counter() - started
            self._say_if_busy(report)
        found = self.table.get_many(self.device.fingerprint, workloads, self.metric)
        missing = [workload for workload in workloads if workload not in found]
        if missing:
            raise TableError(f"{self.table.path}: another process removed {missing[0]} while it was being read")
        return {workload: measurement.value for workload, measurement in found.items()}

    def _say_if_busy(self, report: FillReport) -> None:
        self._workloads += report.measured
        self._contended += min(report.contended, report.measured)
        if self.on_busy and self._workloads >= _FEWEST and self._contended > _BUSY * self._workloads:
            self.on_busy(
                f"the machine is busy with other things: {self._contended} of {self._workloads} layers are contended."
                " Measuring goes on without waiting, in about twice the time at most; predictions may be a few"
                " percent off, and these layers are measured again once the machine is less busy"
            )
            self.on_busy = None
