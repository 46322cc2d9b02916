"""The whole networks of a run, measured at most once each: what is in the journal is not measured again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from netadapt.lut.calibration import measure_network
from netadapt.measure.compare import compare
from netadapt.measure.device import Device
from netadapt.measure.measurement import Measurement, Status
from netadapt.search.run import RunFolder

_COSTS: TypeAdapter[dict[str, Measurement]] = TypeAdapter(dict[str, Measurement])
#: An interval whose ends are further apart than this factor names no figure.
_WIDEST_INTERVAL = 1.5


@dataclass(frozen=True)
class LatencyRatio:
    """Latency of a network divided by that of the original, with its confidence interval, from interleaved pairs."""

    ratio: float
    low: float
    high: float
    verdict: str
    status: Status = "converged"

    @property
    def conclusive(self) -> bool:
        """Whether the interval says which network is faster, and about how much."""
        return not self.low <= 1 <= self.high and self.high <= _WIDEST_INTERVAL * self.low

    def speedup(self) -> dict[str, Any]:
        """How many times as fast as the original the network is, as plain values."""
        ends = {"ratio": 1 / self.ratio, "low": 1 / self.high, "high": 1 / self.low}
        return {**ends, "verdict": self.verdict, "status": self.status, "conclusive": self.conclusive}


@dataclass(frozen=True)
class MeasuredNetworks:
    """Measures the accepted networks of a run by their number; 0 is the original.

    The cost of a network does not depend on its weights, so the last network is measured before its long fine-tune.
    `model` gives the ONNX model of a network, without a normalisation in front: costs are those that were predicted.
    """

    device: Device
    folder: RunFolder
    model: Callable[[int], bytes]

    def costs(self, iteration: int) -> dict[str, Measurement]:
        """The network's cost in each metric of the platform.

        Raises:
            ModelError, MeasurementError, RunError: it could not be measured, or the journal not be written.

        """
        event = self._event("measured", iteration)
        if event is None:
            model = self.model(iteration)
            measured = {metric: measure_network(self.device, model, metric) for metric in self.device.platform.metrics}
            costs = {metric: json.loads(measurement.to_json()) for metric, measurement in measured.items()}
            event = self.folder.record("measured", iteration=iteration, costs=costs)
        return _COSTS.validate_python(event["costs"])

    def latency_ratio(self, iteration: int) -> LatencyRatio:
        """The network's latency relative to the original's.

        Raises:
            ModelError, MeasurementError, RunError: as `costs`.

        """
        event = self._event("compared", iteration)
        if event is None:
            found = compare(self.device, self.model(0), self.model(iteration))
            event = self.folder.record(
                "compared",
                iteration=iteration,
                ratio=found.ratio,
                low=found.low,
                high=found.high,
                verdict=found.verdict,
                status=found.status,
            )
        return LatencyRatio(event["ratio"], event["low"], event["high"], event["verdict"], event["status"])

    def _event(self, kind: str, iteration: int) -> dict[str, Any] | None:
        events = (event for event in self.folder.events if event["event"] == kind)
        return next((event for event in events if event["iteration"] == iteration), None)
