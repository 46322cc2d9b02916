"""A network's prediction from what the table holds already: nothing is measured, and no device is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netadapt.errors import TableError
from netadapt.lut.calibration import stored_correction
from netadapt.lut.estimator import Correction, Estimator
from netadapt.lut.store import Table
from netadapt.measure.device import fingerprint
from netadapt.measure.platform import Platform
from netadapt.network.network import AdaptableNetwork
from netadapt.network.workload import Workload


class MissingEntriesError(TableError):
    """A table that lacks entries which were not asked to be measured."""


@dataclass(frozen=True)
class LayerPrediction:
    """The cost of a network by the table (ns): each workload in order of execution, and all with the fixed part.

    `correction` is None where whole networks have not been measured yet, so that nothing corrects the sum.
    """

    layers: tuple[tuple[Workload, float], ...]
    fixed_part: float
    total: float
    correction: Correction | None


@dataclass(frozen=True)
class StoredCosts:
    """Costs of workloads in one metric out of a table, whatever their status."""

    table: Table
    fingerprint: str
    metric: str = "latency"

    def __call__(self, workloads: Sequence[Workload]) -> Mapping[Workload, int]:
        """Costs in the metric's unit (ns, pJ).

        Raises:
            MissingEntriesError: some are not in the table.

        """
        wanted = dict.fromkeys(workloads)
        found = self.table.get_many(self.fingerprint, wanted, self.metric)
        if missing := len(wanted) - len(found):
            raise MissingEntriesError(f"{self.table.path}: {missing} of {len(wanted)} entries are missing")
        return {workload: measurement.value for workload, measurement in found.items()}


def stored_prediction(
    network: AdaptableNetwork, platform: Platform, table: Table, corrected: bool = True
) -> LayerPrediction:
    """Predict the latency of a network as it is.

    Raises:
        MissingEntriesError: the table lacks entries of it.
        TableError: the table cannot be read.

    """
    identity = fingerprint(platform)
    correction = stored_correction(table, identity, network.plan.digest, "latency") if corrected else None
    only = {group: (width,) for group, width in network.widths.items()}
    estimator = Estimator(network.plan, only, StoredCosts(table, identity), correction)
    return prediction_of(estimator, network, correction)


def prediction_of(estimator: Estimator, network: AdaptableNetwork, correction: Correction | None) -> LayerPrediction:
    """Put together what an estimator says of a network as it is."""
    layers = estimator.layers(network.widths)
    return LayerPrediction(layers, estimator.fixed_part, estimator(network.widths), correction)
