"""What each part of the algorithm is worth: runs that differ from a usual one in one thing (the paper's section 4.3).

A variation's name is `ABLATION: SETTING`; it is the usual run but for the fields of `bench.runs.RunPlan` that it names.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.case import Bench, Findings
from bench.runs import FinishedRun, RunPlan, adapt, guided, pre_trained
from bench.stages import Workshop
from bench.timing import measure_latency
from netadapt.results.schema import Figure


def run(bench: Bench) -> Findings:
    """Make the usual run and every variation of it, for every seed.

    Raises:
        NetAdaptError: a run failed.

    """
    parameters = bench.case.parameters
    network, dataset = pre_trained(parameters["network"], parameters["data"])
    usual = RunPlan(workers=parameters["workers"], seed=0, **parameters["usual"])
    made: list[tuple[dict[str, Any], FinishedRun]] = []
    for seed in parameters["seeds"]:
        for name, change in [("usual: as it is", {}), *parameters["variations"].items()]:
            bench.observer.stage(f"{name}, seed {seed}")
            plan = dataclasses.replace(usual, seed=seed, **change)
            finished = adapt(bench, Workshop(bench.work), network, dataset.name, plan, "bundled")
            made.append((_row(name, seed, finished), finished))
    first = made[0][1]
    timed = measure_latency(
        bench.device,
        {"usual": (first.folder / first.summary["adapted"]["onnx"]).read_bytes()},
        parameters["rounds"],
        bench.observer,
    )
    rows = [row for row, _ in made]
    return Findings(
        figures={
            **guided(bench, {"usual_latency": timed["usual"]}),
            **guided(bench, _figures(rows, int(first.summary["adapted"]["test_images"]))),
            "original_test_accuracy": _accuracy(_original_accuracy(first), first.summary["adapted"]["test_images"]),
        },
        data={"network": network.name, "data": dataset.name, "rows": rows},
        headline="usual_latency",
    )


def _row(name: str, seed: int, run: FinishedRun) -> dict[str, Any]:
    ablation, setting = name.split(": ")
    adapted = run.summary["adapted"]
    return {
        "ablation": ablation,
        "setting": setting,
        "seed": seed,
        "iterations": run.summary["iterations"],
        **{field: adapted[field] for field in ("latency_ns", "macs", "holdout_accuracy", "test_accuracy")},
    }


def _original_accuracy(run: FinishedRun) -> float:
    return float(run.summary["original"]["test_accuracy"])


def _figures(rows: list[dict[str, Any]], images: int) -> dict[str, Figure]:
    figures = {}
    for name in dict.fromkeys((row["ablation"], row["setting"]) for row in rows):
        same = [row for row in rows if (row["ablation"], row["setting"]) == name]
        label = "_".join(name).replace(" ", "_")
        mean = sum(row["test_accuracy"] for row in same) / len(same)
        figures[f"{label}_test_accuracy"] = _accuracy(mean, images)
    return figures


def _accuracy(value: float, images: int) -> Figure:
    # Three standard errors: a run on another day chooses by other latencies.
    error = (value * (1 - value) / images) ** 0.5
    return Figure(value=value, unit="share", better="higher", origin="evaluated", tolerance=3 * error)
