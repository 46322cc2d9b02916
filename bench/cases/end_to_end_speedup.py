"""Accuracy against latency of adapted networks and of what a user would pick instead (the paper's figures 7 and 8).

All arms see the same data for the same number of epochs: a network trained from scratch is trained for as many as
pre-training and fine-tuning take together. Test accuracy decides nothing but the figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.case import Bench, Findings
from bench.runs import FinishedRun, RunPlan, adapt, describe, guided, latency_ns
from bench.stages import Workshop
from bench.timing import measure_latency
from bench.tradeoff import Point, mean_interval, speedups_at_equal_accuracy
from bench.training import Crew, Trained, TrainingOrder, zoo_network
from bench.uniform import prune_uniformly
from netadapt.errors import CaseError
from netadapt.lut.predictor import Predictor
from netadapt.network.export import to_onnx
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.results.schema import Figure, Origin
from netadapt.search.trainer import load_network
from netadapt.train import load_dataset

DRIVERS = ("latency", "macs")


@dataclass(frozen=True)
class Arm:
    """One network to be compared: which arm it is of, and whose weights and accuracies it has."""

    arm: str
    label: str
    seed: int
    network: AdaptableNetwork
    widths: dict[str, int]
    trained: Trained


@dataclass
class _Experiment:
    bench: Bench
    workshop: Workshop = field(init=False)
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.workshop = Workshop(self.bench.work)
        self.crew = Crew(self.workshop, self.parameters["workers"], self.bench.observer.measured)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.bench.case.parameters

    @cached_property
    def base(self) -> AdaptableNetwork:
        """The network that is adapted, as it is before any training."""
        return zoo_network(self.parameters["network"], self.parameters["data"])

    @cached_property
    def predictor(self) -> Predictor:
        predictor = Predictor(self.base, self.bench.device, self.bench.table, on_progress=self.bench.observer.measured)
        predictor.calibrate()
        return predictor

    @property
    def from_scratch_epochs(self) -> float:
        return float(self.parameters["pre_training_epochs"] + self.parameters["fine_tuning_epochs"])

    # --- the arms, each for all seeds, so that all cores have something to do ---

    def pre_trained(self) -> list[Arm]:
        """The networks that pruning and NetAdapt start from."""
        self.bench.observer.stage("training the original networks")
        orders = [self._from_scratch(seed, self.parameters["pre_training_epochs"]) for seed in self.parameters["seeds"]]
        return [
            Arm("original", "pre-trained", seed, self.base, self.base.widths, trained)
            for seed, trained in zip(self.parameters["seeds"], self.crew.train(orders), strict=True)
        ]

    def multipliers(self) -> list[Arm]:
        self.bench.observer.stage("training width multipliers from scratch")
        networks = [zoo_network(name, self.parameters["data"]) for name in self.parameters["multipliers"]]
        pairs = [(seed, network) for seed in self.parameters["seeds"] for network in networks]
        orders = [self._from_scratch(seed, self.from_scratch_epochs, network.name) for seed, network in pairs]
        return [
            Arm("multiplier", network.name, seed, network, network.widths, trained)
            for (seed, network), trained in zip(pairs, self.crew.train(orders), strict=True)
        ]

    def uniform(self, originals: Sequence[Arm]) -> list[Arm]:
        self.bench.observer.stage("fine-tuning uniformly pruned networks")
        pruned = [
            self._pruned(original, ratio) for original in originals for ratio in self.parameters["uniform_ratios"]
        ]
        return self._fine_tuned(pruned)

    def runs(self, originals: Sequence[Arm]) -> dict[tuple[int, str], FinishedRun]:
        """NetAdapt's run of each seed and driver."""
        made = {}
        for original in originals:
            for driver in DRIVERS:
                self.bench.observer.stage(f"NetAdapt by {driver}, seed {original.seed}")
                made[original.seed, driver] = self._run(original, driver)
        return made

    def adapted(self, runs: Mapping[tuple[int, str], FinishedRun]) -> list[Arm]:
        """Points of each run, fine-tuned long.

        Raises:
            CaseError: a run stopped before the first of the points.

        """
        self.bench.observer.stage("fine-tuning adapted networks")
        return self._fine_tuned([source for key, run in runs.items() for source in self._points(*key, run)])

    def retrained(self, adapted: Sequence[Arm]) -> list[Arm]:
        """The shapes that NetAdapt found, trained from scratch."""
        self.bench.observer.stage("training adapted shapes from scratch")
        orders = [self._from_scratch(arm.seed, self.from_scratch_epochs, widths=arm.widths) for arm in adapted]
        return [
            Arm(f"{arm.arm}-retrained", arm.label, arm.seed, self.base, arm.widths, trained)
            for arm, trained in zip(adapted, self.crew.train(orders), strict=True)
        ]

    # --- how each is made ---

    def _from_scratch(
        self, seed: int, epochs: float, network: str | None = None, widths: dict[str, int] | None = None
    ) -> TrainingOrder:
        name = network or self.parameters["network"]
        return TrainingOrder(
            name,
            self.parameters["data"],
            seed,
            epochs,
            self.parameters["lr"],
            "onecycle",
            self.parameters["augment"],
            widths,
        )

    def _pruned(self, original: Arm, ratio: float) -> _Source:
        multiple = self.bench.device.platform.width_multiple
        stage = self.workshop.stage(
            "pruned", weights=self._name_of(original.trained.weights), ratio=ratio, round_to=multiple
        )

        def prune(folder: Path) -> Mapping[str, Any]:
            network = self._trained_network(original)
            return {"widths": prune_uniformly(network, ratio, multiple, folder / "weights.safetensors")}

        widths = stage.do(prune)["widths"]
        return _Source("uniform", f"keep {1 - ratio:g}", original.seed, widths, stage.folder / "weights.safetensors")

    def _run(self, original: Arm, driver: str) -> FinishedRun:
        plan = RunPlan(
            budget=f"{driver}={self.parameters['budgets'][driver]:g}x",
            iterations=self.parameters["iterations"],
            short_steps=self.parameters["short_term_steps"],
            # The last network is fine-tuned with the other points, for as long as they are.
            long_steps=1,
            seed=original.seed,
            workers=self.parameters["workers"],
            lr=self.parameters["short_term_lr"],
            augment=self.parameters["augment"],
        )
        network = self._trained_network(original)
        return adapt(
            self.bench, self.workshop, network, self.parameters["data"], plan, self._name_of(original.trained.weights)
        )

    def _points(self, seed: int, driver: str, run: FinishedRun) -> list[_Source]:
        points = [
            _Source(f"netadapt-{driver}", f"{driver} {share:g}x", seed, found.widths, found.weights)
            for share in self.parameters["points"]
            if (found := run.first_within(driver, share))
        ]
        if not points:
            raise CaseError(
                f"NetAdapt by {driver}, seed {seed}, stopped before the first point: {run.summary['stopped']}"
            )
        return points

    def _fine_tuned(self, sources: Sequence[_Source]) -> list[Arm]:
        orders = [
            TrainingOrder(
                self.parameters["network"],
                self.parameters["data"],
                source.seed,
                self.parameters["fine_tuning_epochs"],
                self.parameters["fine_tuning_lr"],
                "cosine",
                self.parameters["augment"],
                source.widths,
                str(source.weights),
            )
            for source in sources
        ]
        return [
            Arm(source.arm, source.label, source.seed, self.base, source.widths, trained)
            for source, trained in zip(sources, self.crew.train(orders), strict=True)
        ]

    def _trained_network(self, arm: Arm) -> AdaptableNetwork:
        module = load_network(arm.network, arm.widths, arm.trained.weights)
        return analyse(arm.network.name, module, arm.network.example_input)

    def _name_of(self, weights: Path) -> str:
        return str(weights.relative_to(self.workshop.folder))

    # --- what they are worth ---

    def measured(self, arm: Arm) -> dict[str, Any]:
        """An arm's network as a results file has it."""
        ours = arm.network is self.base
        return {
            "arm": arm.arm,
            "label": arm.label,
            "seed": arm.seed,
            "widths": arm.widths,
            "latency_ns": latency_ns(self.bench, arm.network.name, arm.widths, self.exported(arm)),
            "predicted_ns": self.predictor.estimator(arm.widths) if ours else None,
            "macs": arm.network.plan.macs(arm.widths),
            "params": arm.network.plan.params(arm.widths),
            "holdout_accuracy": arm.trained.holdout_accuracy,
            "test_accuracy": arm.trained.test_accuracy,
        }

    def exported(self, arm: Arm) -> bytes:
        """Its ONNX model, for measuring: the weights are not its own."""
        return to_onnx(arm.network.shaped(arm.widths), arm.network.example_input)

    def layers(self, widths: Mapping[str, int]) -> list[dict[str, Any]]:
        """Where the time of a network goes, by the table."""
        return [
            {"workload": str(workload), "latency_ns": cost}
            for workload, cost in self.predictor.estimator.layers(widths)
        ]


@dataclass(frozen=True)
class _Source:
    """Weights of a narrowed network that are to be fine-tuned."""

    arm: str
    label: str
    seed: int
    widths: dict[str, int]
    weights: Path


def run(bench: Bench) -> Findings:
    """Train and measure all arms; what an earlier run of the case has left in `bench.work` is not trained again.

    Raises:
        NetAdaptError: a network could not be trained, adapted or measured.

    """
    experiment = _Experiment(bench)
    originals = experiment.pre_trained()
    multipliers = experiment.multipliers()
    runs = experiment.runs(originals)
    adapted = experiment.adapted(runs)
    arms = [*originals, *multipliers, *experiment.uniform(originals), *adapted, *experiment.retrained(adapted)]
    bench.observer.stage("measuring all arms")
    rows = [experiment.measured(arm) for arm in arms]
    final = _smallest(adapted, rows, arms)
    timed = measure_latency(
        bench.device,
        {"original": experiment.exported(originals[0]), "adapted": experiment.exported(final)},
        experiment.parameters["rounds"],
    )
    test_images = len(load_dataset(experiment.parameters["data"], int(experiment.base.example_input.shape[-1])).test)
    return Findings(
        figures={
            "original_latency": timed["original"],
            "original_test_accuracy": _accuracy(_test_accuracies(rows, "original"), test_images),
            **guided(
                bench,
                {
                    "adapted_latency": timed["adapted"],
                    "speedup_over_original": _speedup(_by_rounds(timed), "measured"),
                    **_figures(rows, experiment.parameters["seeds"], test_images),
                },
            ),
        },
        data={
            "network": experiment.parameters["network"],
            "data": experiment.parameters["data"],
            "epochs": {
                "pre_training": experiment.parameters["pre_training_epochs"],
                "fine_tuning": experiment.parameters["fine_tuning_epochs"],
                "from_scratch": experiment.from_scratch_epochs,
            },
            "arms": rows,
            "runs": [
                {
                    "seed": seed,
                    "driver": driver,
                    "original_widths": experiment.base.widths,
                    "iterations": describe(bench, made),
                }
                for (seed, driver), made in runs.items()
            ],
            "layers": {
                "before": experiment.layers(experiment.base.widths),
                "after": experiment.layers(final.widths),
            },
        },
        headline="adapted_latency",
        host_figures=_host_figures(arms, runs),
    )


def _smallest(adapted: Sequence[Arm], rows: Sequence[Mapping[str, Any]], arms: Sequence[Arm]) -> Arm:
    """The fastest network that the run by latency of the first seed ended with."""
    latency = {id(arm): row["latency_ns"] for arm, row in zip(arms, rows, strict=True)}
    ours = [arm for arm in adapted if arm.arm == "netadapt-latency" and arm.seed == adapted[0].seed]
    return min(ours, key=lambda arm: latency[id(arm)])


def _figures(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], test_images: int) -> dict[str, Figure]:
    figures = {}
    for theirs, arms in _CURVES.items():
        of_seeds = [
            speedups_at_equal_accuracy(_points(rows, seed, ("netadapt-latency",)), _points(rows, seed, arms))
            for seed in seeds
        ]
        figures[f"speedup_over_{theirs}"] = _speedup([statistics.fmean(found) for found in of_seeds], "derived")
        figures[f"best_speedup_over_{theirs}"] = _speedup([max(found) for found in of_seeds], "derived")
    for driver in DRIVERS:
        accuracies = _test_accuracies(rows, f"netadapt-{driver}")
        figures[f"netadapt_{driver}_test_accuracy"] = _accuracy(accuracies, test_images)
    return figures


def _test_accuracies(rows: Sequence[Mapping[str, Any]], arm: str) -> list[float]:
    return [row["test_accuracy"] for row in rows if row["arm"] == arm]


#: Arms that a user would choose from instead; each with the network that was not narrowed at all.
_CURVES = {
    "multipliers": ("multiplier",),
    "uniform": ("uniform", "original"),
    "macs": ("netadapt-macs", "original"),
}


def _points(rows: Sequence[Mapping[str, Any]], seed: int, arms: Sequence[str]) -> list[Point]:
    return [
        Point(row["latency_ns"], row["test_accuracy"]) for row in rows if row["seed"] == seed and row["arm"] in arms
    ]


def _speedup(ratios: Sequence[float], origin: Origin) -> Figure:
    """Mean of repetitions, seeds or rounds; a few percent are within what another draw of the randomness changes."""
    interval = mean_interval(ratios)
    return Figure(
        value=interval.mean,
        unit="ratio",
        better="higher",
        origin=origin,
        low=interval.low,
        high=interval.high,
        tolerance=0.05 * interval.mean,
    )


def _accuracy(accuracies: Sequence[float], images: int) -> Figure:
    """Mean over seeds and points; two standard errors of one test say nothing."""
    mean = statistics.fmean(accuracies)
    error = math.sqrt(mean * (1 - mean) / images)
    return Figure(value=mean, unit="share", better="higher", origin="evaluated", tolerance=2 * error)


def _by_rounds(timed: Mapping[str, Figure]) -> list[float]:
    """How many times as fast the adapted network is, in each round, as the machine was the same for both."""
    pairs = zip(timed["original"].samples, timed["adapted"].samples, strict=True)
    return [original / adapted for original, adapted in pairs]


def _host_figures(arms: Sequence[Arm], runs: Mapping[tuple[int, str], FinishedRun]) -> dict[str, Figure]:
    trainings = {arm.trained.weights: arm.trained.seconds for arm in arms}
    costs = [run.summary["cost"] for run in runs.values()]
    seconds = {
        "training": sum(trainings.values()),
        "search": sum(cost["wall_seconds"] for cost in costs),
        "search_training": sum(cost["training_seconds"] for cost in costs),
    }
    return {name: Figure(value=value, unit="s", better="neither", origin="measured") for name, value in seconds.items()}
