"""One network on one device: which widths are allowed, what a narrowed network costs, how that is calibrated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from netadapt.lut.calibration import Calibrator
from netadapt.lut.costs import MeasuredCosts
from netadapt.lut.estimator import Correction, Estimator
from netadapt.lut.fill import FillReport, fill
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.export import to_onnx
from netadapt.network.network import AdaptableNetwork
from netadapt.network.workload import Workload


def allowed_widths(network: AdaptableNetwork, device: Device) -> dict[str, Sequence[int]]:
    """The widths, in ascending order, that a platform allows for each channel group."""
    multiple = device.platform.width_multiple
    return {name: group.allowed_widths(multiple) for name, group in network.groups.items()}


@dataclass
class Predictor:
    """Puts network, device and table together for one metric.

    `on_progress(done, total)` hears of measuring, `on_busy(text)`, once, of a machine that is too busy for that.
    """

    network: AdaptableNetwork
    device: Device
    table: Table
    metric: str = "latency"
    on_progress: Callable[[int, int], None] = lambda done, total: None
    on_busy: Callable[[str], None] | None = None

    @cached_property
    def allowed(self) -> dict[str, Sequence[int]]:
        """The widths that the platform allows for each channel group."""
        return allowed_widths(self.network, self.device)

    @cached_property
    def costs(self) -> MeasuredCosts:
        """Entries of the table, measured where it lacks them."""
        return MeasuredCosts(self.table, self.device, self.metric, on_progress=self._hear, on_busy=self.on_busy)

    @cached_property
    def estimator(self) -> Estimator:
        """Predicts the network at any allowed widths; without a correction until it is given one."""
        return Estimator(self.network.plan, self.allowed, self.costs)

    def fill(self, workloads: Iterable[Workload]) -> FillReport:
        """Measure the workloads that the table lacks; see `netadapt.lut.fill.fill`.

        Raises:
            UnknownNameError, MeasurementError, TableError: see there.

        """
        return fill(self.table, self.device, workloads, self.metric, self._hear)

    def _hear(self, done: int, total: int, *_: object) -> None:
        self.on_progress(done, total)

    def export(self, widths: Mapping[str, int]) -> bytes:
        """The ONNX model of the network narrowed to `widths`, for measuring: its weights are not the best ones."""
        return to_onnx(self.network.shaped(widths), self.network.example_input)

    def calibrate(self, corrected: bool = True) -> Correction:
        """Give the estimator its correction: the stored one, or one that is fitted now.

        Without `corrected`, operations that the plan does not know still enter the fixed part, by one measurement of
        the whole network.

        Raises:
            ModelError, MeasurementError, TableError: something could not be exported, measured or stored.

        """
        self.estimator.correction = Correction()  # an older one must not be what the new one is fitted on
        calibrator = Calibrator(self.table, self.device, self.metric, self.export, self.allowed, self.on_progress)
        if corrected:
            self.estimator.correction = calibrator.correction(self.estimator)
        elif self.network.plan.unknown:
            self.estimator.correction = calibrator.fixed_part_only(self.estimator)
        return self.estimator.correction
