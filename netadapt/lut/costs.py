"""Where the estimator's costs come from: the table, and the device for what the table lacks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netadapt.errors import TableError
from netadapt.lut.fill import OnProgress, fill
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.workload import Workload


@dataclass
class MeasuredCosts:
    """Costs of workloads in one metric on one device.

    `measured` counts the measurements that this object spent, `seconds` is the wall time that they took.
    """

    table: Table
    device: Device
    metric: str = "latency"
    on_progress: OnProgress | None = None
    measured: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __call__(self, workloads: Sequence[Workload]) -> Mapping[Workload, int]:
        """Costs in the metric's unit (ns, pJ); what the table lacks is measured and stored first.

        Raises:
            MeasurementError, TableError: measuring or storing failed.

        """
        started = time.perf_counter()
        report = fill(self.table, self.device, workloads, self.metric, self.on_progress)
        if spent := report.measured + report.repeated:
            self.measured += spent
            self.seconds += time.perf_counter() - started
        found = self.table.get_many(self.device.fingerprint, workloads, self.metric)
        missing = [workload for workload in workloads if workload not in found]
        if missing:
            raise TableError(f"{self.table.path}: another process removed {missing[0]} while it was being read")
        return {workload: measurement.value for workload, measurement in found.items()}
