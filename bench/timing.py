"""Latencies that can be compared with those of another day: each taken in turn with that of a fixed model.

What differs between two measurements of the same network on one machine is either the machine (a neighbour, another
clock), which slows the reference model just as much, or where memory happens to lie, which is drawn anew whenever a
model is loaded. So a network is measured in rounds; in each, it and the reference are loaded afresh and timed in
turn. Rounds, not blocks, are what a comparison counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.reference_model import reference_model
from netadapt.errors import MeasurementError
from netadapt.measure import statistics
from netadapt.measure.compare import Pairing, clean_costs, collect_pairs
from netadapt.measure.device import Device
from netadapt.measure.measurement import Status
from netadapt.results.schema import Figure
from netadapt.search.observer import Observer

CONFIDENCE = 0.95
#: Clean pairs of blocks in a round.
_PAIRS = 12
#: A round with fewer clean pairs than this tells little.
_FEWEST_PAIRS = _PAIRS // 2
#: Between rounds, so that somebody else who waits for the device, looking every 20 ms, gets it.
_PAUSE_S = 0.04
#: Relative half width of the confidence interval up to which a latency is called known.
_HALF_WIDTH = 0.02


@dataclass(frozen=True, slots=True)
class Round:
    """Cost of a run of a model and of the reference, in ns, and whether few other things happened meanwhile."""

    cost_ns: float
    reference_ns: float
    clean: bool


def measure_latency(
    device: Device, models: Mapping[str, bytes], rounds: int, observer: Observer | None = None
) -> dict[str, Figure]:
    """Latency of each model, in rounds beside the reference model.

    Args:
        device: what runs them.
        models: ONNX models by any name.
        rounds: how many samples a figure gets; fewer than 6 have no confidence interval.
        observer: hears of each round that is done.

    Raises:
        ModelError, MeasurementError: see `Device.costs`; a simulated clock that does not repeat itself is an error.

    """
    observer = observer or Observer()
    if device.platform.tier == "simulated":
        return _simulated(device, models, rounds, observer)
    taken: dict[str, list[Round]] = {name: [] for name in models}
    order = list(models)
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        # Whatever drifts while they are measured must not always meet the same one first.
        shuffle(order)
        for index, name in enumerate(order):
            taken[name].append(_round(device, models[name]))
            observer.measured(number * len(order) + index + 1, rounds * len(order))
            if device.lock:
                time.sleep(_PAUSE_S)
    return {name: _figure(taken[name]) for name in models}


def _round(device: Device, model: bytes) -> Round:
    pairing = Pairing(rounds=1, most_rounds=1, pairs=_PAIRS)
    with device.exclusive():
        pairs = collect_pairs(lambda: device.load(model), lambda: device.load(reference_model()), pairing)
    clean = clean_costs(pairs)
    # Without any clean pair the rest is all there is; the status then says so.
    costs, reference = zip(*(clean or [(a.cost, b.cost) for a, b in pairs]), strict=True)
    return Round(_quartile(costs), _quartile(reference), len(clean) >= _FEWEST_PAIRS)


def _quartile(costs: Sequence[float]) -> float:
    return statistics.quantile(costs, 0.25)


def _figure(rounds: Sequence[Round]) -> Figure:
    samples = [taken.cost_ns for taken in rounds]
    interval = statistics.quantile_interval(samples, 0.5, CONFIDENCE)
    return Figure(
        value=statistics.median(samples),
        unit="ns",
        better="lower",
        origin="measured",
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        samples=tuple(samples),
        reference_ns=tuple(taken.reference_ns for taken in rounds),
        status=_status(rounds, interval),
    )


def _status(rounds: Sequence[Round], interval: tuple[float, float] | None) -> Status:
    if 2 * sum(taken.clean for taken in rounds) < len(rounds):
        return "contended"
    if interval is None:
        return "unconverged"
    narrow = interval[1] - interval[0] <= 2 * _HALF_WIDTH * statistics.median(interval)
    return "converged" if narrow else "stable-noisy"


def _simulated(device: Device, models: Mapping[str, bytes], rounds: int, observer: Observer) -> dict[str, Figure]:
    """One measurement of each, for all rounds would be the same."""
    reference = _repeatable(device)
    with ThreadPoolExecutor(device.capacity) as pool:
        latencies = []
        for latency in pool.map(lambda model: _latency(device, model), models.values()):
            latencies.append(latency)
            observer.measured(len(latencies), len(models))
    return {name: _exact(cost, reference, rounds) for name, cost in zip(models, latencies, strict=True)}


def _repeatable(device: Device) -> float:
    """Latency of the reference model, measured twice to see that this clock has one answer."""
    first, second = _latency(device, reference_model()), _latency(device, reference_model())
    if first != second:
        raise MeasurementError(
            f"platform {device.platform.name} is not deterministic: the reference model took {first} ns, then"
            f" {second} ns; set it up anew: netadapt platforms setup {device.platform.name}"
        )
    return first


def _latency(device: Device, model: bytes) -> float:
    with device.load(model) as source:
        return source.block().cost


def _exact(cost: float, reference: float, rounds: int) -> Figure:
    return Figure(
        value=cost,
        unit="ns",
        better="lower",
        origin="measured",
        low=cost,
        high=cost,
        samples=(cost,) * rounds,
        reference_ns=(reference,) * rounds,
    )
