"""What a search takes: wall time, proposals, measurements, and its overhead over pure training."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.case import Bench, Findings
from bench.runs import RunPlan, guided, pre_trained
from bench.stages import Stage, Workshop
from bench.timing import measure_latency
from bench.tradeoff import mean_interval
from netadapt.lut.store import Table
from netadapt.network.network import AdaptableNetwork
from netadapt.results.schema import Better, Figure
from netadapt.search.adapt import Adaptation
from netadapt.train.data.types import Dataset

_EMPTY, _FILLED = "empty table", "filled table"


def run(bench: Bench) -> Findings:
    """Make the same run with an empty table, with the filled one, and with more workers, for each seed.

    Raises:
        NetAdaptError: a run failed.

    """
    parameters = bench.case.parameters
    network, dataset = pre_trained(parameters["network"], parameters["data"])
    ways = ((_EMPTY, 1), (_FILLED, 1), (_FILLED, parameters["workers"]))
    runs = [_run(bench, network, dataset, seed, *way) for seed in parameters["seeds"] for way in ways]
    model = (_stage(bench, parameters["seeds"][0], *ways[-1]).folder / "adapted.onnx").read_bytes()
    timed = measure_latency(bench.device, {"adapted": model}, parameters["rounds"], bench.observer)
    empty, filled, shared = ([found for found in runs if (found["label"], found["workers"]) == way] for way in ways)
    return Findings(
        figures=guided(
            bench,
            {
                "adapted_latency": timed["adapted"],
                "proposals": _count([found["proposals"] for found in empty]),
                "measurements": _count([found["measurements"] for found in empty]),
            },
        ),
        data={"network": network.name, "data": dataset.name},
        headline="adapted_latency",
        host_figures={
            "wall_empty_table": _seconds(empty),
            "wall": _seconds(filled),
            "wall_shared": _seconds(shared),
            "overhead": _ratio([found["wall_s"] / found["training_s"] for found in filled], "lower"),
            # Of two runs, one after the other: whoever else uses the cores takes part in this. Of the search alone, as
            # the long fine-tune after it is the work of one.
            "gain_of_workers": _ratio(
                [one["search_s"] / more["search_s"] for one, more in zip(filled, shared, strict=True)], "neither"
            ),
        },
        host_data={"runs": runs},
    )


def _stage(bench: Bench, seed: int, label: str, workers: int) -> Stage:
    return Workshop(bench.session).stage("run", seed=seed, label=label, workers=workers)


def _run(
    bench: Bench, network: AdaptableNetwork, dataset: Dataset, seed: int, label: str, workers: int
) -> dict[str, Any]:
    """One run from start to end: half a run, resumed, would not tell its time."""

    def search(folder: Path) -> Mapping[str, Any]:
        bench.observer.stage(f"a NetAdapt run, seed {seed}, {label}, {workers} worker(s)")
        shutil.rmtree(folder / "run", ignore_errors=True)
        table = bench.session / f"table-{seed}.sqlite"
        if label == _EMPTY:
            table.unlink(missing_ok=True)
        options = RunPlan(seed=seed, workers=workers, **bench.case.parameters["run"]).options()
        with Table.open(table) as opened:
            adaptation = Adaptation(
                network, dataset, bench.device, opened, options, folder / "run", observer=bench.observer
            )
            summary = adaptation.run()
        shutil.copy(folder / "run" / summary["adapted"]["onnx"], folder / "adapted.onnx")
        shutil.rmtree(folder / "run")
        cost = summary["cost"]
        return {
            "seed": seed,
            "label": label,
            "workers": workers,
            "wall_s": cost["wall_seconds"],
            "search_s": cost["search_seconds"],
            "training_s": cost["training_seconds"],
            "proposals": cost["proposals"],
            "measurements": cost["measurements"],
        }

    return _stage(bench, seed, label, workers).do(search)


def _count(values: Sequence[int]) -> Figure:
    mean = statistics.fmean(values)
    return Figure(value=mean, unit="count", better="lower", origin="counted", tolerance=0.1 * mean)


def _seconds(runs: Sequence[Mapping[str, Any]]) -> Figure:
    # On a shared machine: told, not judged.
    interval = mean_interval([found["wall_s"] for found in runs])
    return Figure(
        value=interval.mean, unit="s", better="neither", origin="measured", low=interval.low, high=interval.high
    )


def _ratio(values: Sequence[float], better: Better) -> Figure:
    interval = mean_interval(values)
    return Figure(
        value=interval.mean,
        unit="ratio",
        better=better,
        origin="derived",
        low=interval.low,
        high=interval.high,
        tolerance=0.25 * interval.mean,
    )
