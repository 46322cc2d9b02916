"""Do two runs give the same? Weights and accuracies on every platform, cycles on a simulated one."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

from bench.case import Bench, Findings
from bench.runs import RunPlan, pre_trained
from bench.timing import measure_latency
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.network.network import AdaptableNetwork
from netadapt.results.schema import Figure
from netadapt.search.adapt import Adaptation
from netadapt.train.data.types import Dataset


def run(bench: Bench) -> Findings:
    """Make a run twice, with one worker and with two, each with a device and a table of its own; compare all digits.

    Raises:
        NetAdaptError: a run failed.

    """
    parameters = bench.case.parameters
    network, dataset = pre_trained(parameters["network"], parameters["data"])
    first, second = (_digits(bench, network, dataset, workers) for workers in (1, 2))
    digits = [{"what": what, "first": first[what], "second": second[what]} for what in first]
    model = (bench.session / "workers-1" / "onnx" / "adapted.onnx").read_bytes()
    timed = measure_latency(bench.device, {"adapted": model}, parameters["rounds"], bench.observer)
    equal = sum(row["first"] == row["second"] for row in digits) / len(digits)
    return Findings(
        figures={
            "equal_digits": Figure(value=equal, unit="share", better="higher", origin="derived"),
            "adapted_latency": timed["adapted"],
        },
        data={"digits": digits},
        headline="adapted_latency",
    )


def _digits(bench: Bench, network: AdaptableNetwork, dataset: Dataset, workers: int) -> dict[str, Any]:
    """What must not differ. On a real clock a latency may, so there the run is driven by MACs."""
    folder = bench.session / f"workers-{workers}"
    shutil.rmtree(folder, ignore_errors=True)
    table = bench.session / f"table-{workers}.sqlite"
    table.unlink(missing_ok=True)
    simulated = bench.device.platform.tier == "simulated"
    plan = RunPlan(seed=0, workers=workers, **bench.case.parameters["run"])
    plan = dataclasses.replace(plan, budget=f"{'latency' if simulated else 'macs'}={plan.budget}")
    bench.observer.stage(f"a NetAdapt run with {workers} worker(s)")
    with open_device(bench.device.platform) as device, Table.open(table) as opened:
        adaptation = Adaptation(network, dataset, device, opened, plan.options(), folder, observer=bench.observer)
        summary = adaptation.run()
    adapted = summary["adapted"]
    digits = {
        "widths": adapted["widths"],
        "weights": _digest(folder / adapted["weights"]),
        "hold-out accuracy": adapted["holdout_accuracy"],
        "test accuracy": adapted["test_accuracy"],
    }
    if simulated:
        digits |= {
            name: adapted[name] for name in ("latency_ns", "predicted_latency_ns", "energy_pj") if name in adapted
        }
    return digits


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
