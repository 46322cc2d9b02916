"""How much less time the fast strategy takes than the paper's way and than its authors' code, and what each idea gives.

All arms have the same budget, schedule, fine-tunes, workers and table; those of a seed run one after the other, so that
whoever else uses the machine takes part in all. The way of the authors' code (`bench.reference_way`) is timed on some
proposals of a paper run, spread over all its iterations, and extrapolated to all of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.case import Bench, Findings
from bench.reference_way import ReferenceWay
from bench.runs import RunPlan, guided, pre_trained
from bench.stages import Stage, Workshop
from bench.timing import measure_latency
from bench.tradeoff import mean_interval
from bench.training import Crew, TrainingOrder, zoo_network
from netadapt.errors import CaseError
from netadapt.lut.predictor import Predictor
from netadapt.network.network import AdaptableNetwork
from netadapt.results.schema import Figure, Origin
from netadapt.search.adapt import Adaptation
from netadapt.search.budget import Schedule
from netadapt.search.executors import OnOutcome
from netadapt.search.making import ProposalMaker
from netadapt.search.metrics import Estimated
from netadapt.search.observer import Observer
from netadapt.search.options import Options
from netadapt.search.outcome import Look, Order, Outcome, State
from netadapt.search.proposals import predict, propose
from netadapt.search.run import RunFolder
from netadapt.search.strategy import FAST, PAPER, Strategy
from netadapt.search.trainer import load_network
from netadapt.train import load_dataset
from netadapt.train.data.types import Dataset
from netadapt.zoo import NetworkSpec
from netadapt.zoo.weight_files import find_bundled

T = TypeVar("T")

_PLATFORM_FIELDS = (
    "network", "seed", "arm", "idea", "iterations", "proposals", "budget_met", "latency_ns", "holdout_accuracy",
    "test_accuracy",
)  # fmt: skip
_HOST_FIELDS = (
    "network", "seed", "arm", "idea", "workers", "search_s", "measuring_s", "wall_s", "training_s", "proposals",
    "measurements", "test_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A way to search; `idea` is what was taken away from the fast one."""

    name: str
    strategy: Strategy
    idea: str | None = None

    @property
    def title(self) -> str:
        """Name and idea."""
        return f"{self.name} {self.idea}" if self.idea else self.name


def arms(with_ideas: bool) -> list[Arm]:
    """The two strategies and, `with_ideas`, the fast one without each of its ideas."""
    found = [Arm("paper", PAPER), Arm("fast", FAST)]
    used = [field.name for field in dataclasses.fields(FAST) if getattr(FAST, field.name) != getattr(PAPER, field.name)]
    for idea in used if with_ideas else ():
        without = dataclasses.replace(FAST, **{idea: getattr(PAPER, idea)})
        found.append(Arm("fast without", without, idea.replace("_", " ")))
    return found


@dataclass(frozen=True)
class _Subject:
    """A pre-trained network that is adapted, and its data."""

    network: AdaptableNetwork
    dataset: Dataset

    @property
    def label(self) -> str:
        """Its name as a part of names of figures."""
        return self.network.name.replace(":", "_").replace("@", "_")


def run(bench: Bench) -> Findings:
    """Make all runs, and time the way of the authors' code; what was done before a stop is not done again.

    Raises:
        NetAdaptError: a run or a proposal failed.

    """
    subjects = [_subject(bench, name) for name in bench.case.parameters["networks"]]
    rows: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    models: dict[str, bytes] = {}
    for subject in subjects:
        _fill_table(bench, subject)
        for seed in bench.case.parameters["seeds"]:
            with_ideas = seed in bench.case.parameters["ideas"].get(subject.network.name, ())
            rows += [_searched(bench, subject, arm, seed) for arm in arms(with_ideas)]
        references.append(_reference(bench, subject))
        models |= {f"{arm.name}_latency_{subject.label}": _model(bench, subject, arm) for arm in arms(False)}
    bench.observer.stage("measuring adapted networks")
    timed = measure_latency(bench.device, models, bench.case.parameters["rounds"], bench.observer)
    return Findings(
        figures=guided(bench, {**timed, **_figures(subjects, rows, references)}),
        data={
            "data": bench.case.parameters["data"],
            "runs": [{field: row[field] for field in _PLATFORM_FIELDS} for row in rows],
            "reference": [{field: entry[field] for field in ("network", "made", "same")} for entry in references],
        },
        headline=f"fast_latency_{subjects[0].label}",
        host_figures=_host_figures(subjects, rows, references),
        host_data={
            "runs": [{field: row[field] for field in _HOST_FIELDS} for row in rows],
            "reference": [{key: value for key, value in entry.items() if key != "same"} for entry in references],
        },
    )


# --- what is adapted ---


def _subject(bench: Bench, name: str) -> _Subject:
    """A network with its bundled weights, or with those that it is trained to have first."""
    data = bench.case.parameters["data"]
    if find_bundled(NetworkSpec.parse(name), data):
        return _Subject(*pre_trained(name, data))
    bench.observer.stage(f"training {name}")
    order = TrainingOrder(name, data, seed=0, schedule="onecycle", **bench.case.parameters["pre_training"])
    (trained,) = Crew(Workshop(bench.work), workers=1).train([order])
    network = zoo_network(name, data)
    module = load_network(network, network.widths, trained.weights)
    dataset = load_dataset(data, NetworkSpec.parse(name).size)
    return _Subject(dataclasses.replace(network, module=module), dataset)


def _fill_table(bench: Bench, subject: _Subject) -> None:
    """Measure, untimed, most of what searches will ask for: a random way to the budget, in large and in small steps."""
    bench.observer.stage(f"filling the table for {subject.network.name}")
    predictor = Predictor(subject.network, bench.device, bench.table, on_progress=bench.observer.measured)
    predictor.calibrate()
    metrics = (Estimated("latency", predictor.estimator),)
    options = _options(bench, subject, seed=0)
    state = State(0, subject.network.widths, predict(metrics, subject.network.widths), 0.0, 0.0, Path())
    schedule = Schedule(
        options.pace, state.resources, {"latency": options.budgets[0].limit(state.resources["latency"])}
    )
    chance = random.Random(0)
    while not schedule.is_met(state.resources):
        limits = schedule.limits(state.iteration, state.resources)
        step = state.resources["latency"] - limits["latency"]
        small = {"latency": state.resources["latency"] - step / FAST.groups}
        propose(state.iteration, state.widths, small, metrics, predictor.allowed)
        proposals = propose(state.iteration, state.widths, limits, metrics, predictor.allowed)
        if not proposals:
            return
        chosen = chance.choice(proposals)
        state = dataclasses.replace(
            state, iteration=state.iteration + 1, widths=chosen.widths, resources=chosen.resources
        )


# --- the runs ---


def _plan(bench: Bench, subject: _Subject, seed: int) -> RunPlan:
    """The plan of all networks, but for what this one has of its own."""
    of_network = bench.case.parameters["networks"][subject.network.name]
    workers = bench.case.parameters["workers"]
    return RunPlan(seed=seed, workers=workers, **{**bench.case.parameters["run"], **of_network})


def _options(bench: Bench, subject: _Subject, seed: int) -> Options:
    options = _plan(bench, subject, seed).options()
    training = dataclasses.replace(options.short_term.options, batch_size=bench.case.parameters["short_batch"])
    return dataclasses.replace(options, short_term=dataclasses.replace(options.short_term, options=training))


def _run_stage(bench: Bench, subject: _Subject, arm: Arm, seed: int) -> Stage:
    # In the session's folder: times are those of this code and this machine.
    return Workshop(bench.session).stage("run", network=subject.network.name, arm=arm.title, seed=seed)


def _searched(bench: Bench, subject: _Subject, arm: Arm, seed: int) -> dict[str, Any]:
    """One run from start to end: half a run, resumed, would not tell its time."""

    def search(folder: Path) -> Mapping[str, Any]:
        bench.observer.stage(f"{subject.network.name}, {arm.title}, seed {seed}")
        shutil.rmtree(folder / "run", ignore_errors=True)
        options = dataclasses.replace(_options(bench, subject, seed), strategy=arm.strategy)
        adaptation = Adaptation(
            subject.network,
            subject.dataset,
            bench.device,
            bench.table,
            options,
            folder / "run",
            observer=bench.observer,
        )
        summary = adaptation.run()
        shutil.copy(folder / "run" / summary["adapted"]["onnx"], folder / "adapted.onnx")
        if not _is_remade(bench, arm, seed):
            shutil.rmtree(folder / "run")  # some 100 MB each
        return _row(summary)

    found = _run_stage(bench, subject, arm, seed).do(search)
    return {"arm": arm.name, "idea": arm.idea, "workers": bench.case.parameters["workers"], **found}


def _row(summary: Mapping[str, Any]) -> dict[str, Any]:
    adapted, cost = summary["adapted"], summary["cost"]
    return {
        **{field: summary[field] for field in ("network", "seed", "iterations", "budget_met")},
        **{field: adapted[field] for field in ("latency_ns", "holdout_accuracy", "test_accuracy", "test_images")},
        **{field: cost[field] for field in ("proposals", "measurements")},
        # The table is the platform's, for all searches to come; who measures what first would be chance.
        "search_s": cost["search_seconds"] - cost["measuring_seconds"],
        "measuring_s": cost["measuring_seconds"],
        "wall_s": cost["wall_seconds"],
        "training_s": cost["training_seconds"],
    }


def _model(bench: Bench, subject: _Subject, arm: Arm) -> bytes:
    """The network that a strategy found with the first seed."""
    stage = _run_stage(bench, subject, arm, bench.case.parameters["seeds"][0])
    return (stage.folder / "adapted.onnx").read_bytes()


# --- the way of the authors' code ---


def _is_remade(bench: Bench, arm: Arm, seed: int) -> bool:
    """Whether proposals of this run are made again in the authors' way."""
    return arm.name == "paper" and seed == bench.case.parameters["seeds"][0]


def _reference(bench: Bench, subject: _Subject) -> dict[str, Any]:
    """Some proposals of the first paper run in the authors' way: the time it takes, and whether they are the same.

    Raises:
        CaseError: one could not be made, so that its time says nothing.

    """
    seed, workers = bench.case.parameters["seeds"][0], bench.case.parameters["workers"]
    run_folder = _run_stage(bench, subject, arms(False)[0], seed).folder / "run"
    plan = _plan(bench, subject, seed)

    def make(folder: Path) -> Mapping[str, Any]:
        bench.observer.stage(f"{subject.network.name}, proposals in the way of the authors' code")
        shutil.rmtree(folder, ignore_errors=True)
        orders, before = _some_orders(run_folder, plan, bench.case.parameters["reference_proposals"])
        made: list[Outcome] = []

        def take(outcome: Outcome) -> None:
            made.append(outcome)
            bench.observer.measured(len(made), len(orders))

        options = _options(bench, subject, seed).short_term.options
        started = time.perf_counter()
        with ReferenceWay(subject.network.name, bench.case.parameters["data"], options, workers, folder) as way:
            way.run(orders, take)
        wall_s = time.perf_counter() - started
        failed = next((outcome for outcome in made if outcome.dropped), None)
        if failed:
            raise CaseError(f"a proposal could not be made in the way of the authors' code: {failed.dropped}")
        same = sum(before[_key(outcome)] == (outcome.score, outcome.loss) for outcome in made)
        return {
            "proposals": len(before),
            "made": len(made),
            "same": same,
            "wall_s": wall_s,
            "training_s": sum(outcome.seconds for outcome in made),
            "extrapolated_s": wall_s / len(made) * len(before),
        }

    found = Workshop(bench.session).stage("reference", network=subject.network.name).do(make)
    return {"network": subject.network.name, "seed": seed, "workers": workers, **found}


class _Collector:
    """An executor that carries nothing out, and keeps the orders."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        self.orders += orders

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _some_orders(
    run_folder: Path, plan: RunPlan, count: int
) -> tuple[list[Order], dict[tuple[int, str], tuple[float, float]]]:
    """Orders of `count` proposals of a finished run, from first to last iteration, and score and loss they had."""
    config = json.loads((run_folder / "config.json").read_text(encoding="utf-8"))
    summary = json.loads((run_folder / "summary.json").read_text(encoding="utf-8"))
    collector = _Collector()
    with RunFolder.open(run_folder, config, resume=True) as folder:
        original = State(0, summary["original"]["widths"], {}, 0.0, 0.0, folder.weights(0))
        states = [original, *folder.accepted()]
        outcomes = [Outcome.from_json(event["outcome"]) for event in folder.events if event["event"] == "proposal"]
        kept = sorted((outcome for outcome in outcomes if not outcome.dropped), key=_key)
        maker = ProposalMaker(collector, folder, plan.seed, Observer())
        for outcome in spread(kept, count):
            maker.make([outcome.proposal], states[outcome.proposal.iteration], Look(plan.short_steps))
    return collector.orders, {_key(outcome): (outcome.score, outcome.loss) for outcome in kept}


def _key(outcome: Outcome) -> tuple[int, str]:
    return outcome.proposal.iteration, outcome.proposal.group


def spread(values: Sequence[T], count: int) -> list[T]:
    """At most `count` of the values, as evenly spread as can be, all of them standing for as many others."""
    count = min(count, len(values))
    return [values[(2 * index + 1) * len(values) // (2 * count)] for index in range(count)]


# --- figures ---


def _figures(
    subjects: Sequence[_Subject], rows: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for subject, reference in zip(subjects, references, strict=True):
        paper, fast = (_of(rows, subject, arm) for arm in ("paper", "fast"))
        images = paper[0]["test_images"]
        of_paper, of_fast = ([row["test_accuracy"] for row in found] for found in (paper, fast))
        found = {
            "paper_test_accuracy": _share(of_paper, images),
            "fast_test_accuracy": _share(of_fast, images),
            "accuracy_gain_of_fast": _gain(of_paper, of_fast, images),
            "within_budget": _plain(statistics.fmean(row["budget_met"] for row in (*paper, *fast))),
            "same_in_reference_way": _plain(reference["same"] / reference["made"]),
        }
        figures |= {f"{name}_{subject.label}": figure for name, figure in found.items()}
    return figures


def _host_figures(
    subjects: Sequence[_Subject], rows: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for subject, reference in zip(subjects, references, strict=True):
        paper, fast = (_of(rows, subject, arm) for arm in ("paper", "fast"))
        # Each proposal of the paper's way would have been one in the authors', too.
        of_reference = [row["proposals"] / reference["proposals"] * reference["extrapolated_s"] for row in paper]
        of_paper, of_fast = ([row["search_s"] for row in found] for found in (paper, fast))
        found = {
            "paper_search": _seconds(of_paper, "measured"),
            "fast_search": _seconds(of_fast, "measured"),
            "reference_search": _seconds(of_reference, "derived"),
            "speedup_of_fast": _ratio(of_paper, of_fast),
            "speedup_of_fast_run": _ratio([row["wall_s"] for row in paper], [row["wall_s"] for row in fast]),
            "speedup_over_reference": _ratio(of_reference, of_fast),
        }
        figures |= {f"{name}_{subject.label}": figure for name, figure in found.items()}
    return figures


def _of(rows: Sequence[Mapping[str, Any]], subject: _Subject, arm: str) -> list[Mapping[str, Any]]:
    """Runs of an arm, in the order of the seeds."""
    return [row for row in rows if (row["network"], row["arm"]) == (subject.network.name, arm)]


def _share(accuracies: Sequence[float], images: int) -> Figure:
    """Mean over seeds; two standard errors of one test say nothing."""
    interval = mean_interval(accuracies)
    return Figure(
        value=interval.mean,
        unit="share",
        better="higher",
        origin="evaluated",
        low=interval.low,
        high=interval.high,
        tolerance=2 * math.sqrt(interval.mean * (1 - interval.mean) / images),
    )


def _gain(paper: Sequence[float], fast: Sequence[float], images: int) -> Figure:
    """How much more accurate the fast strategy's network of each seed is."""
    interval = mean_interval([ours - theirs for ours, theirs in zip(fast, paper, strict=True)])
    tolerance = _share(paper, images).tolerance
    return Figure(
        value=interval.mean,
        unit="share",
        better="higher",
        origin="derived",
        low=interval.low,
        high=interval.high,
        tolerance=tolerance,
    )


def _plain(value: float) -> Figure:
    return Figure(value=value, unit="share", better="higher", origin="derived")


def _seconds(values: Sequence[float], origin: Origin) -> Figure:
    # On a shared machine: told, not judged.
    interval = mean_interval(values)
    return Figure(value=interval.mean, unit="s", better="neither", origin=origin, low=interval.low, high=interval.high)


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> Figure:
    """How many times as long the slow one takes, seed by seed; whoever else uses the cores takes part in this."""
    interval = mean_interval([theirs / ours for theirs, ours in zip(slow, fast, strict=True)])
    return Figure(
        value=interval.mean,
        unit="ratio",
        better="higher",
        origin="derived",
        low=interval.low,
        high=interval.high,
        tolerance=0.3 * interval.mean,
    )
