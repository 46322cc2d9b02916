"""How well the table predicts whole networks that it has never seen."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netadapt.lut.calibration import draw_widths, measure_network
from netadapt.lut.predictor import Predictor
from netadapt.network.plan import Widths

#: Mean difference between two measurements of the same network above which nothing can be said about the table.
WORST_FLOOR = 0.05
#: Every so many networks are measured a second time, to see what the measuring itself is worth.
_REPEATED_EVERY = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One random-width network: predicted and measured cost in the metric's unit."""

    widths: dict[str, int]
    predicted: float
    measured: int

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Accuracy:
    """Agreement of prediction and measurement over all samples; shares and errors are relative, not percent.

    `noise_floor` is the mean absolute relative difference between two measurements of one network (A/A). Above
    5 % the machine is too busy for any statement: `conclusive` is then false.
    """

    samples: tuple[Sample, ...]
    noise_floor: float

    @property
    def mape(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self._errors).mean())

    @property
    def bias(self) -> float:
        """Mean error; above 0 the table predicts too much."""
        return float(self._errors.mean())

    @property
    def worst(self) -> float:
        """Largest absolute error."""
        return float(np.abs(self._errors).max())

    def share_within(self, error: float) -> float:
        """Share of networks whose absolute error is at most `error`."""
        return float((np.abs(self._errors) <= error).mean())

    @property
    def spearman(self) -> float:
        """Rank correlation of prediction and measurement."""
        predicted = np.array([sample.predicted for sample in self.samples])
        measured = np.array([sample.measured for sample in self.samples], dtype=np.float64)
        return float(np.corrcoef(ranks(predicted), ranks(measured))[0, 1])

    @property
    def conclusive(self) -> bool:
        """Whether the machine was quiet enough."""
        return self.noise_floor <= WORST_FLOOR

    @property
    def _errors(self) -> NDArray[np.float64]:
        return np.array([sample.error for sample in self.samples])


def assess(predictor: Predictor, networks: int, seed: int) -> Accuracy:
    """Draw `networks` random-width networks, predict them, measure them whole, and every fifth one twice.

    Raises:
        ModelError, MeasurementError, TableError: a network could not be exported, measured or looked up.

    """
    generator = random.Random(seed)
    drawn = [draw_widths(predictor.allowed, generator) for _ in range(networks)]
    predictor.estimator.ensure(drawn)
    repeated = range(0, networks, _REPEATED_EVERY)
    total = networks + len(repeated)
    samples: list[Sample] = []
    for widths in drawn:
        samples.append(Sample(widths, predictor.estimator(widths), _measure(predictor, widths)))
        predictor.on_progress(len(samples), total)
    differences = []
    for done, index in enumerate(repeated, start=networks + 1):
        differences.append(abs(_measure(predictor, drawn[index]) / samples[index].measured - 1))
        predictor.on_progress(done, total)
    return Accuracy(tuple(samples), float(np.mean(differences)))


def _measure(predictor: Predictor, widths: Widths) -> int:
    return measure_network(predictor.device, predictor.export(widths), predictor.metric).value


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of their ranks."""
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2
