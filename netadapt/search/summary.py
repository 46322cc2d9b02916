"""The summary of a run: what was asked for, what came out, how far to trust it. Its schema is in docs/summary.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netadapt.lut.predictor import Predictor
from netadapt.measure.device import Device
from netadapt.measure.measurement import UNITS
from netadapt.network.network import AdaptableNetwork
from netadapt.network.preprocessing import Preprocessing
from netadapt.search.journal import SCHEMA_VERSION
from netadapt.search.judging import Judge, Judgement, worst
from netadapt.search.measured import MeasuredNetworks
from netadapt.search.options import Options
from netadapt.search.outcome import State
from netadapt.search.run import RunFolder
from netadapt.train.data.types import Dataset
from netadapt.train.task import Evaluation


@dataclass(frozen=True)
class Product:
    """A network at the end: its state, its ONNX file, its test result."""

    state: State
    onnx: Path
    test: Evaluation


@dataclass(frozen=True)
class Finished:
    """Everything about a finished run but its two networks."""

    network: AdaptableNetwork
    dataset: Dataset
    device: Device
    options: Options
    folder: RunFolder
    judge: Judge
    predictors: Mapping[str, Predictor]
    preprocessing: Preprocessing

    @property
    def networks(self) -> MeasuredNetworks:
        """Its networks as they were measured."""
        return self.judge.networks


def summarise(run: Finished, original: Product, adapted: Product) -> dict[str, Any]:
    """Measure both networks, alone and in turn, unless that was done; put everything together as plain values.

    Raises:
        ModelError, MeasurementError: a network could not be measured.

    """
    final = adapted.state
    judgements = run.judge.judge(final)
    return {
        "schema_version": SCHEMA_VERSION,
        "network": run.network.name,
        "data": run.dataset.name,
        "platform": run.device.platform.name,
        "requested_platform": run.device.requested,
        "fingerprint": run.device.fingerprint,
        "tier": run.device.platform.tier,
        "seed": run.options.seed,
        "selection": run.options.selection,
        "budget": {judgement.metric: _budget(run, final, judgement) for judgement in judgements},
        "verdict": worst(judgements),
        "budget_met": worst(judgements) == "met",
        "iterations": final.iteration,
        "preprocessing": {**run.preprocessing.to_json(), "in_measured_costs": False},
        "original": _product(run, original),
        "adapted": _product(run, adapted),
        "speedup": run.networks.latency_ratio(final.iteration).speedup(),
        "prediction": {
            metric: {
                "fixed_part": round(predictor.estimator.fixed_part),
                "correction": asdict(predictor.estimator.correction),
            }
            for metric, predictor in run.predictors.items()
        },
        "left_out": [asdict(group) for group in run.network.left_out],
        "unknown_operations": sorted(set(run.network.plan.unknown)),
        "corrected_after": [event["iteration"] for event in run.folder.all("corrected")],
        "pareto": _accepted(run.folder),
        "cost": _cost(run),
    }


def _budget(run: Finished, final: State, judgement: Judgement) -> dict[str, Any]:
    """The limit of a budget, the predicted and the measured cost, and the verdict."""
    schedule, metric = run.judge.schedule, judgement.metric
    return {
        "limit": schedule.budget[metric],
        "original": schedule.original[metric],
        "predicted": final.resources[metric],
        "measured": {
            "of_original": judgement.of_original,
            "allowed": judgement.allowed,
            "value": judgement.value,
            "low": judgement.low,
            "high": judgement.high,
        },
        "verdict": judgement.verdict,
    }


def _product(run: Finished, product: Product) -> dict[str, Any]:
    state = product.state
    return {
        "widths": state.widths,
        "macs": run.network.plan.macs(state.widths),
        "params": run.network.plan.params(state.widths),
        **_costs(run, state),
        "layers": _layers(run, state),
        "holdout_accuracy": state.score,
        "test_accuracy": product.test.score,
        "test_images": product.test.count,
        "onnx": str(product.onnx.relative_to(run.folder.path)),
        "weights": str(state.weights.relative_to(run.folder.path)),
    }


def _costs(run: Finished, state: State) -> dict[str, Any]:
    """Cost in each metric of the platform, and as predicted if it was: `latency_ns`, `predicted_latency_ns`, ..."""
    costs: dict[str, Any] = {}
    for metric, measurement in run.networks.costs(state.iteration).items():
        name = f"{metric}_{UNITS[metric].lower()}"
        if metric in run.predictors:
            costs[f"predicted_{name}"] = round(state.resources[metric])
        costs[name] = measurement.value
        costs[f"{metric}_status"] = measurement.status
        costs["provenance"] = asdict(measurement.provenance)
    return costs


def _layers(run: Finished, state: State) -> list[dict[str, Any]]:
    """Where the network's time goes by the table, in order of execution, before the correction; if it was predicted."""
    if "latency" not in run.predictors:
        return []
    layers = run.predictors["latency"].estimator.layers(state.widths)
    return [{"workload": str(workload), "latency_ns": round(cost)} for workload, cost in layers]


def _accepted(folder: RunFolder) -> list[dict[str, Any]]:
    """Every network on the way, each with its own deployable model."""
    return [
        {
            "iteration": state.iteration,
            "widths": state.widths,
            "predicted": state.resources,
            "holdout_accuracy": state.score,
            "onnx": str(folder.onnx(state.iteration).relative_to(folder.path)),
        }
        for state in folder.accepted()
    ]


def _cost(run: Finished) -> dict[str, Any]:
    outcomes = [entry["outcome"] for entry in run.folder.events if entry["event"] == "proposal"]
    accepted = [entry for entry in run.folder.events if entry["event"] == "accepted"]
    return {
        # A proposal that was looked at several times is one.
        "proposals": len({(outcome["proposal"]["iteration"], outcome["proposal"]["group"]) for outcome in outcomes}),
        "dropped_proposals": [
            {
                "iteration": outcome["proposal"]["iteration"],
                "group": outcome["proposal"]["group"],
                "reason": outcome["dropped"],
            }
            for outcome in outcomes
            if outcome["dropped"]
        ],
        "search_seconds": round(sum(event.get("wall_seconds", 0.0) for event in accepted), 3),
        "training_seconds": round(sum(_seconds(entry) for entry in run.folder.events), 3),
        "measurements": sum(predictor.costs.measured for predictor in run.predictors.values()),
        "measuring_seconds": round(sum(predictor.costs.seconds for predictor in run.predictors.values()), 3),
    }


def _seconds(entry: dict[str, Any]) -> float:
    """Time that an event spent in training and evaluation."""
    return float(entry.get("seconds", 0.0) + entry.get("outcome", {}).get("seconds", 0.0))
