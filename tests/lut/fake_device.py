"""A device that only pretends to measure."""

from __future__ import annotations

from contextlib import contextmanager

from table_values import measurement

from netadapt.lut.fill import REFERENCE
from netadapt.measure.device import Device
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import Instant


class FakeDevice(Device):
    """Costs 100 ns a channel, times the speed that the test sets; keeps a record of what it measured.

    Each measurement takes 10 ms of a core, of which this process gets `share`.
    """

    share = 1.0

    def __init__(self, tier="local", lock=None):
        platform = load_platform("ort-local").model_copy(update={"tier": tier, "metrics": ("latency", "energy")})
        super().__init__(platform, lock=lock)
        self.measured = []
        self.wall_ns = self.cpu_ns = 0
        self.slowness = lambda measured: 1.0
        self.status = lambda measured: "converged"

    def costs(self, model):
        raise NotImplementedError

    @contextmanager
    def load(self, model):
        raise NotImplementedError

    def workload_costs(self, workload):
        number = len(self.measured)
        self.measured.append(workload)
        self.cpu_ns += 10_000_000
        self.wall_ns += 10_000_000 / self.share
        value = round(100 * workload.in_channels[0] * self.slowness(number))
        status = self.status(number)
        return {metric: measurement(value, self.fingerprint, status, metric) for metric in ("latency", "energy")}

    def clock(self):
        return Instant(round(self.wall_ns), self.cpu_ns, 0)

    @property
    def layers(self):
        """The workloads measured, without the reference."""
        return [workload for workload in self.measured if workload != REFERENCE]
