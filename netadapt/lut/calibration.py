"""Learn from a few whole networks what the sum of their layers leaves out, and correct the estimate by it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from netadapt.errors import TableError
from netadapt.lut.estimator import Correction, Estimator
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.measure.measurement import DOUBTFUL, Measurement
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.plan import Widths

#: Whole networks that a correction is fitted on, the original included.
NETWORKS = 8
#: Randomly drawn widths are at least this share of the original ones: an adapted network hardly goes below.
LEAST_SHARE = 0.25

_CORRECTION = TypeAdapter(Correction)

Export = Callable[[Widths], bytes]
"""Gives the ONNX model of the network narrowed to some widths; the values of its weights do not matter."""


def draw_widths(allowed: Mapping[str, Sequence[int]], generator: random.Random) -> dict[str, int]:
    """Random widths out of the allowed ones, none below a quarter of the original."""
    return {
        group: generator.choice([choice for choice in choices if choice >= LEAST_SHARE * choices[-1]])
        for group, choices in allowed.items()
    }


def measure_network(device: Device, model: bytes, metric: str) -> Measurement:
    """Cost of a whole network in the metric's unit; taken once more, and no slower, if the machine was disturbed."""
    measurement = device.measure(model, metric)
    if measurement.status in DOUBTFUL:
        measurement = min(measurement, device.measure(model, metric), key=lambda taken: taken.value)
    return measurement


@dataclass(frozen=True)
class Calibrator:
    """Fits the correction of one network on one device and keeps it in the table."""

    table: Table
    device: Device
    metric: str
    export: Export
    allowed: Mapping[str, Sequence[int]]
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def correction(self, estimator: Estimator, seed: int = 0) -> Correction:
        """The stored correction of this network, or a new one from `NETWORKS` whole-network measurements.

        One that does not explain what it was fitted on is not stored: the next time, the machine may be quieter.

        Raises:
            ModelError, MeasurementError, TableError: a network could not be exported, measured or stored.

        """
        stored = stored_correction(self.table, self.device.fingerprint, estimator.plan.digest, self.metric)
        if stored is not None:
            return stored
        correction = self._fit(estimator, seed)
        if correction.explains:
            text = json.dumps(asdict(correction))
            self.table.put_network(self.device.fingerprint, _key(estimator.plan.digest), text, self.metric)
        return correction

    def fixed_part_only(self, estimator: Estimator) -> Correction:
        """What the original network costs beyond its known workloads, as an offset; nothing is scaled."""
        original = estimator.plan.original
        rest = measure_network(self.device, self.export(original), self.metric).value - estimator(original)
        return Correction(offset=rest, networks=1)

    def _fit(self, estimator: Estimator, seed: int) -> Correction:
        # A stream of its own: networks that an accuracy check draws from the same seed must not be among these.
        generator = random.Random(f"calibration {seed}")
        drawn = [estimator.plan.original, *(draw_widths(self.allowed, generator) for _ in range(NETWORKS - 1))]
        estimator.ensure(drawn)
        predicted, measured = [], []
        for done, widths in enumerate(drawn, start=1):
            predicted.append(estimator(widths))
            measured.append(measure_network(self.device, self.export(widths), self.metric).value)
            self.on_progress(done, len(drawn))
        return fit_correction(np.array(predicted), np.array(measured, dtype=np.float64))


def stored_correction(table: Table, fingerprint: str, plan_digest: str, metric: str) -> Correction | None:
    """Return the correction of a network on a platform that the table keeps; None if there is none yet.

    Raises:
        TableError: the table cannot be read.

    """
    stored = table.get_network(fingerprint, _key(plan_digest), metric)
    return None if stored is None else _read(stored, table)


def _read(stored: str, table: Table) -> Correction:
    try:
        correction = _CORRECTION.validate_json(stored, strict=True)
        whole = set(json.loads(stored)) == set(asdict(correction))
    except ValidationError:
        whole = False
    if not whole or not all(map(math.isfinite, asdict(correction).values())):
        raise TableError(
            f"{table.path}: the stored correction of this network is damaged ({stored[:80]!r}); restore the"
            " table from an export or delete it"
        )
    return correction


def _key(plan_digest: str) -> str:
    return f"{plan_digest} protocol {PROTOCOL_VERSION}"


def fit_correction(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> Correction:
    """The scale and offset with the least squared relative error of `scale * predicted + offset`.

    Where the networks hardly differ, a line through them says nothing; then only a scale is fitted.
    """
    ones = np.ones_like(predicted)
    design = np.stack([predicted, ones], axis=1) / measured[:, None]
    if len(predicted) < 3 or np.ptp(predicted) < 0.1 * predicted.mean():
        design[:, 1] = 0.0
    (scale, offset), *_ = np.linalg.lstsq(design, ones, rcond=None)
    correction = Correction(float(scale), float(offset), len(predicted))
    corrected = correction.scale * predicted + correction.offset
    return replace(correction, residual=float(np.abs(corrected / measured - 1).mean()))
