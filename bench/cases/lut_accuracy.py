"""Does the table predict the device? Whole networks it has never seen, and every iteration of a NetAdapt run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.case import Bench, Findings
from bench.runs import RunPlan, adapt, describe, latency_ns, pre_trained
from bench.stages import Workshop
from bench.timing import measure_latency
from netadapt.lut.accuracy import Accuracy, Sample
from netadapt.lut.calibration import draw_widths, measure_network
from netadapt.lut.predictor import Predictor
from netadapt.measure.measurement import Status
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.results.schema import Better, Figure
from netadapt.zoo import resolve

#: Every so many networks are measured twice, to see what the measuring itself is worth.
_REPEATED_EVERY = 5
#: Operations of a profile that cost something in the runtime and have no workload.
_WITHOUT_WORKLOAD = frozenset({"Flatten", "Reshape"})


def run(bench: Bench) -> Findings:
    """Predict and measure random-width networks and the networks of a run, and find the worst predicted layers.

    Raises:
        NetAdaptError: a network could not be predicted, adapted or measured.

    """
    parameters = bench.case.parameters
    network = _network(parameters["network"])
    predictor = Predictor(network, bench.device, bench.table, on_progress=bench.observer.measured)
    bench.observer.stage("calibrating")
    predictor.calibrate()
    samples = _random_networks(bench, predictor, parameters["networks"])
    noise = _measured_twice(bench, predictor, samples)
    iterations = _iterations(bench, parameters["run"])
    bench.observer.stage("measuring the original network in rounds")
    original = measure_latency(
        bench.device, {"original": predictor.export(network.widths)}, parameters["rounds"], bench.observer
    )["original"]
    floor = float(np.mean([abs(pair["second_ns"] / pair["first_ns"] - 1) for pair in noise]))
    accuracy = Accuracy(tuple(Sample(s["widths"], s["predicted_ns"], s["measured_ns"]) for s in samples), floor)
    errors = [row["predicted_ns"] / row["measured_ns"] - 1 for row in iterations]
    return Findings(
        figures={**_figures(bench, accuracy, errors), "original_latency": original},
        data={
            "network": parameters["network"],
            "networks": samples,
            "run": iterations,
            "noise": noise,
            "layers": _worst_layers(bench, predictor)[: parameters["layers"]],
        },
        headline="original_latency",
    )


def _network(name: str) -> AdaptableNetwork:
    resolved = resolve(name, classes=None, in_channels=None)
    return analyse(name, resolved.module, resolved.example_input)


def _random_networks(bench: Bench, predictor: Predictor, count: int) -> list[dict[str, Any]]:
    generator = random.Random(bench.case.parameters["seed"])
    drawn = [draw_widths(predictor.allowed, generator) for _ in range(count)]
    bench.observer.stage("measuring layers of random-width networks")
    predictor.estimator.ensure(drawn)
    bench.observer.stage("measuring random-width networks")
    rows = []
    for number, widths in enumerate(drawn, start=1):
        measured = latency_ns(bench, predictor.network.name, widths, predictor.export(widths))
        rows.append({"widths": widths, "predicted_ns": predictor.estimator(widths), "measured_ns": measured})
        bench.observer.measured(number, count)
    return rows


def _measured_twice(bench: Bench, predictor: Predictor, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    bench.observer.stage("measuring some networks again")
    pairs = []
    for sample in samples[::_REPEATED_EVERY]:
        again = measure_network(bench.device, predictor.export(sample["widths"]), "latency").value
        pairs.append({"first_ns": sample["measured_ns"], "second_ns": again})
    return pairs


def _iterations(bench: Bench, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every network of a NetAdapt run, predicted and measured. What it was trained for does not matter here."""
    network, dataset = pre_trained(run["network"], run["data"])
    plan = RunPlan(run["budget"], run["iterations"], run["short_term_steps"], 1, seed=0, workers=run["workers"])
    bench.observer.stage("a NetAdapt run")
    made = adapt(bench, Workshop(bench.work), network, dataset.name, plan, "bundled")
    return [{name: row[name] for name in ("iteration", "predicted_ns", "measured_ns")} for row in describe(bench, made)]


def _worst_layers(bench: Bench, predictor: Predictor) -> list[dict[str, Any]]:
    """Layers of the original network by how far the table is off, the worst first."""
    layers = list(predictor.estimator.layers(predictor.network.widths))
    costs = _inside(bench, predictor)
    how = "inside the network"
    if costs is None or len(costs) != len(layers):
        how = "measured again"
        empty_ns = predictor.estimator.fixed_part
        costs = [bench.device.measure_workload(workload).value - empty_ns for workload, _ in layers]
    rows = [
        {"workload": str(workload), "predicted_ns": predicted, "measured_ns": measured, "how": how}
        for (workload, predicted), measured in zip(layers, costs, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row["predicted_ns"] - row["measured_ns"]))


def _inside(bench: Bench, predictor: Predictor) -> list[float] | None:
    """Latency of each layer inside the whole network in ns, where the platform can tell; without what telling costs."""
    if bench.device.platform.tier != "simulated":
        return None
    model = predictor.export(predictor.network.widths)
    profile = bench.device.profile(model)
    whole = bench.device.measure(model).value - predictor.estimator.fixed_part
    telling = (sum(layer.latency_ns for layer in profile) - whole) / len(profile)
    return [layer.latency_ns - telling for layer in profile if layer.op not in _WITHOUT_WORKLOAD]


def _figures(bench: Bench, accuracy: Accuracy, iteration_errors: Sequence[float]) -> dict[str, Figure]:
    status: Status = "converged" if accuracy.conclusive else "contended"

    def figure(value: float, better: Better, tolerance: float) -> Figure:
        return Figure(value=value, unit="share", better=better, origin="derived", status=status, tolerance=tolerance)

    # On a real clock: what measuring the same network twice differs by, a prediction's error may differ by too.
    within = 0.001 if bench.repeatable else max(0.03, 2 * accuracy.noise_floor)
    return {
        "mean_absolute_error": figure(accuracy.mape, "lower", within),
        "bias": figure(accuracy.bias, "neither", within),
        # One network decides it; with a real clock, one disturbance.
        "worst_error": figure(accuracy.worst, "lower" if bench.repeatable else "neither", 3 * within),
        "within_10_percent": figure(accuracy.share_within(0.1), "higher", 0.1),
        "rank_correlation": figure(accuracy.spearman, "higher", 0.001 if bench.repeatable else 0.02),
        "noise_floor": figure(accuracy.noise_floor, "neither", within),
        "mean_absolute_error_of_run": figure(float(np.abs(iteration_errors).mean()), "lower", within),
    }
