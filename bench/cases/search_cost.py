"""What a search takes: wall time, proposals, measurements, and its overhead over pure training."""

from __future__ import annotations

import shutil
from typing import Any

from bench.case import Bench, Findings
from bench.runs import RunPlan, guided, pre_trained
from bench.stages import Workshop
from bench.timing import measure_latency
from netadapt.lut.store import Table
from netadapt.network.network import AdaptableNetwork
from netadapt.results.schema import Better, Figure
from netadapt.search.adapt import Adaptation
from netadapt.train.data.types import Dataset


def run(bench: Bench) -> Findings:
    """Make the same run with an empty table, with the filled one, and with more workers.

    Raises:
        NetAdaptError: a run failed.

    """
    parameters = bench.case.parameters
    network, dataset = pre_trained(parameters["network"], parameters["data"])
    runs = [
        _run(bench, network, dataset, label, workers)
        for label, workers in (("empty table", 1), ("filled table", 1), ("filled table", parameters["workers"]))
    ]
    timed = measure_latency(bench.device, {"adapted": _model(bench)}, parameters["rounds"], bench.observer)
    empty, filled, shared = runs
    return Findings(
        figures=guided(
            bench,
            {
                "adapted_latency": timed["adapted"],
                "proposals": _count(empty["proposals"]),
                "measurements": _count(empty["measurements"]),
            },
        ),
        data={"network": network.name, "data": dataset.name},
        headline="adapted_latency",
        host_figures={
            "wall_empty_table": _seconds(empty["wall_s"]),
            "wall": _seconds(filled["wall_s"]),
            "wall_shared": _seconds(shared["wall_s"]),
            "overhead": _ratio(filled["wall_s"] / filled["training_s"], "lower"),
            # Two runs, one after the other: whoever else uses the cores takes part in this.
            "gain_of_workers": _ratio(filled["wall_s"] / shared["wall_s"], "neither"),
        },
        host_data={"runs": runs},
    )


def _run(bench: Bench, network: AdaptableNetwork, dataset: Dataset, label: str, workers: int) -> dict[str, Any]:
    """One run from start to end: half a run, resumed, would not tell its time."""
    stage = Workshop(bench.session).stage("run", label=label, workers=workers)

    def search() -> dict[str, Any]:
        bench.observer.stage(f"a NetAdapt run, {label}, {workers} worker(s)")
        shutil.rmtree(bench.session / "timed", ignore_errors=True)
        table = bench.session / "table.sqlite"
        if label == "empty table":
            table.unlink(missing_ok=True)
        plan = RunPlan(seed=0, workers=workers, **bench.case.parameters["run"])
        with Table.open(table) as opened:
            adaptation = Adaptation(
                network, dataset, bench.device, opened, plan.options(), bench.session / "timed", observer=bench.observer
            )
            cost = adaptation.run()["cost"]
        return {
            "label": label,
            "workers": workers,
            "wall_s": cost["wall_seconds"],
            "training_s": cost["training_seconds"],
            "proposals": cost["proposals"],
            "measurements": cost["measurements"],
        }

    return stage.do(lambda _: search())


def _model(bench: Bench) -> bytes:
    return (bench.session / "timed" / "onnx" / "adapted.onnx").read_bytes()


def _count(value: int) -> Figure:
    return Figure(value=value, unit="count", better="lower", origin="counted", tolerance=0.1 * value)


def _seconds(value: float) -> Figure:
    # One run on a shared machine: told, not judged.
    return Figure(value=value, unit="s", better="neither", origin="measured")


def _ratio(value: float, better: Better) -> Figure:
    return Figure(value=value, unit="ratio", better=better, origin="derived", tolerance=0.25 * value)
