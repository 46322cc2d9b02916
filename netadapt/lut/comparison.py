"""One network on two platforms, layer by layer, so that the layer that one of them does worst is visible."""

from __future__ import annotations

from dataclasses import dataclass

from netadapt.lut.predictor import Predictor
from netadapt.measure.compare import Comparison, compare_models, require_equal_tiers
from netadapt.network.workload import Workload


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """Cost of a layer inside the network on platforms A and B, in ns, without what every run costs."""

    workload: Workload
    a_ns: float
    b_ns: float

    @property
    def ratio(self) -> float:
        """B's cost divided by A's."""
        return self.b_ns / self.a_ns if self.a_ns else float("inf")


@dataclass(frozen=True, slots=True)
class NetworkComparison:
    """All layers, in the order of execution, and the whole network measured interleaved."""

    layers: tuple[LayerComparison, ...]
    whole: Comparison


def compare_layers(a: Predictor, b: Predictor) -> NetworkComparison:
    """Compare the table's costs of the layers of a network on two platforms, and the network's measured latency.

    Raises:
        MeasurementError: the platforms are of different tiers, or one failed.

    """
    require_equal_tiers(a.device, b.device)
    widths = a.network.widths
    pairs = zip(a.estimator.layers(widths), b.estimator.layers(widths), strict=True)
    layers = tuple(LayerComparison(workload, cost_a, cost_b) for (workload, cost_a), (_, cost_b) in pairs)
    model = a.export(widths)
    return NetworkComparison(layers, compare_models(a.device, model, b.device, model))
