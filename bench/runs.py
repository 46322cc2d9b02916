"""NetAdapt runs as the cases need them: made once, resumed after a stop, and read back with measured latencies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.case import Bench
from bench.stages import Workshop
from bench.training import augmentation
from netadapt.by_name import load_network_and_data
from netadapt.lut.calibration import measure_network
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.results.schema import Figure
from netadapt.search.adapt import Adaptation
from netadapt.search.budget import Pace, parse_budgets
from netadapt.search.options import Options
from netadapt.search.selection import Selection
from netadapt.search.trainer import Training
from netadapt.train import TrainingOptions, load_dataset
from netadapt.train.data.types import Dataset


def pre_trained(network: str, data: str) -> tuple[AdaptableNetwork, Dataset]:
    """A network with bundled weights for a data set, and the data set.

    Raises:
        UnknownNameError, ModelError, DataError: one of them does not exist or cannot be used.

    """
    resolved, dataset = load_network_and_data(network, data, None)
    return analyse(resolved.name, resolved.module, resolved.example_input), dataset


@dataclass(frozen=True)
class RunPlan:
    """How a run searches; all of it decides what it finds, but for `workers`."""

    budget: str
    iterations: int
    short_steps: int
    long_steps: int
    seed: int
    workers: int = 1
    lr: float = 0.005
    long_lr: float = 0.005
    decay: float = 0.96
    initial_reduction: float | None = None
    selection: Selection = "accuracy"
    augment: bool = True

    def options(self) -> Options:
        """As the search takes them."""
        changes = augmentation(self.augment)
        return Options(
            parse_budgets([self.budget]),
            selection=self.selection,
            pace=Pace(self.iterations, self.decay, self.initial_reduction),
            short_term=Training(self.short_steps, TrainingOptions(lr=self.lr, augmentation=changes)),
            long_term=Training(self.long_steps, TrainingOptions(lr=self.long_lr, augmentation=changes)),
            workers=self.workers,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Iteration:
    """An accepted network; `proposals` are all that it was chosen from. Iteration 0 is the original, without any."""

    number: int
    group: str | None
    widths: dict[str, int]
    resources: dict[str, float]
    holdout_accuracy: float
    weights: Path
    onnx: Path
    proposals: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended, and its folder."""

    folder: Path
    summary: dict[str, Any]
    iterations: tuple[Iteration, ...]

    def first_within(self, metric: str, share: float) -> Iteration | None:
        """The first accepted network that costs at most `share` of the original in `metric`, if any does."""
        limit = share * self.iterations[0].resources[metric]
        return next((found for found in self.iterations[1:] if found.resources[metric] <= limit), None)


def adapt(
    bench: Bench, workshop: Workshop, network: AdaptableNetwork, data: str, plan: RunPlan, weights: str
) -> FinishedRun:
    """Make the run, or what is left of it; `weights` names where the network's weights come from.

    Raises:
        NetAdaptError: see `netadapt.search.adapt.Adaptation.run`.

    """
    decisive = {name: value for name, value in vars(plan).items() if name != "workers"}
    stage = workshop.stage(
        "run", network=network.name, weights=weights, data=data, fingerprint=bench.device.fingerprint, **decisive
    )
    folder = stage.folder / "run"
    dataset = load_dataset(data, int(network.example_input.shape[-1]))

    def search(_: Path) -> Mapping[str, Any]:
        adaptation = Adaptation(
            network, dataset, bench.device, bench.table, plan.options(), folder, observer=bench.observer
        )
        return adaptation.run(resume=True)

    summary = stage.do(search)
    return FinishedRun(folder, summary, _iterations(folder))


def describe(bench: Bench, run: FinishedRun) -> list[dict[str, Any]]:
    """Every accepted network as a results file has it, measured whole on the platform."""
    described = []
    for found in run.iterations:
        bench.observer.measured(found.number, len(run.iterations))
        described.append(
            {
                "iteration": found.number,
                "group": found.group,
                "widths": found.widths,
                "predicted_ns": found.resources["latency"],
                "measured_ns": latency_ns(bench, run.summary["network"], found.widths, found.onnx.read_bytes()),
                "holdout_accuracy": found.holdout_accuracy,
                "proposals": list(found.proposals),
            }
        )
    return described


def latency_ns(bench: Bench, network: str, widths: Mapping[str, int], model: bytes) -> int:
    """Measured latency of a network of the zoo at some widths, whatever its weights; once for each in a session."""
    stage = Workshop(bench.session).stage("latency", network=network, widths=dict(widths))
    return int(stage.do(lambda _: {"latency_ns": measure_network(bench.device, model, "latency").value})["latency_ns"])


def guided(bench: Bench, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures of what a search found. On a real clock, whose noise guides the search, they are told and not judged."""
    if bench.repeatable:
        return dict(figures)
    return {name: figure.model_copy(update={"better": "neither"}) for name, figure in figures.items()}


def _iterations(folder: Path) -> tuple[Iteration, ...]:
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    started = next(event for event in events if event["event"] == "started")
    original = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["original"]["widths"]
    found = [_iteration(folder, {**started, "iteration": 0, "widths": original, "group": None}, ())]
    for event in events:
        if event["event"] == "accepted":
            found.append(_iteration(folder, event, _proposals(events, event["iteration"] - 1)))
    return tuple(found)


def _iteration(folder: Path, event: Mapping[str, Any], proposals: tuple[dict[str, Any], ...]) -> Iteration:
    number = event["iteration"]
    return Iteration(
        number,
        event["group"],
        event["widths"],
        event["resources"],
        event["score"],
        folder / "weights" / f"iteration-{number:02d}.safetensors",
        folder / "onnx" / f"iteration-{number:02d}.onnx",
        proposals,
    )


def _proposals(events: list[dict[str, Any]], iteration: int) -> tuple[dict[str, Any], ...]:
    """Proposals of an iteration by group; of one that was made twice, after a stop, the last."""
    outcomes = [event["outcome"] for event in events if event["event"] == "proposal"]
    made = {
        outcome["proposal"]["group"]: outcome
        for outcome in outcomes
        if outcome["proposal"]["iteration"] == iteration and not outcome["dropped"]
    }
    return tuple(
        {
            "group": group,
            "width": outcome["proposal"]["widths"][group],
            # A run driven by another metric predicts no latency of its proposals.
            "predicted_ns": outcome["proposal"]["resources"].get("latency"),
            "holdout_accuracy": outcome["score"],
        }
        # Workers end in any order; the file must not tell which was first.
        for group, outcome in sorted(made.items())
    )
