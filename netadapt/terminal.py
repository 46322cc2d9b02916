"""What the command line shows: progress of long work, and results as tables with unit, tier and origin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from netadapt.standard_output import write_result
from netadapt.wording import counted

if TYPE_CHECKING:
    from netadapt.lut.accuracy import Accuracy
    from netadapt.lut.comparison import NetworkComparison
    from netadapt.lut.entries import Entry
    from netadapt.lut.estimator import Correction
    from netadapt.lut.stored import LayerPrediction
    from netadapt.measure.compare import Comparison
    from netadapt.measure.device import Device, LayerCost
    from netadapt.measure.measurement import Measurement
    from netadapt.measure.platform import Platform
    from netadapt.measure.simulator.fidelity import Fidelity
    from netadapt.measure.tvm.tuning import Tuned
    from netadapt.train.data.types import Dataset

#: Progress and remarks go to standard error, so that results can be piped.
REMARKS = Console(stderr=True, highlight=False)
RESULTS = Console(highlight=False)

#: Figures of `lut accuracy` in words, with how they are written; errors are shares of the measured latency.
_ACCURACY = {
    "mape": ("mean error, over or under (MAPE)", ".2%"),
    "bias": ("mean error with its sign (+: predicted too slow)", "+.2%"),
    "worst": ("largest error", ".2%"),
    "within_5_percent": ("networks whose error is at most 5 %", ".2%"),
    "within_10_percent": ("networks whose error is at most 10 %", ".2%"),
    "spearman": ("order kept (Spearman's rank correlation; 1: all)", ".4f"),
    "noise_floor": ("difference of two measurements of one network", ".2%"),
}
_SCALES = {"latency": (1e6, "ms"), "energy": (1e6, "uJ"), "macs": (1e6, "M"), "params": (1e3, "k")}


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    write_result(json.dumps(value, indent=2, sort_keys=True) + "\n")


def say(text: str) -> None:
    """Write one line to standard output, however long it is; square brackets are markup."""
    RESULTS.print(text, soft_wrap=True)


def note(text: str) -> None:
    """Write a remark to standard error."""
    REMARKS.print(f"[dim]note: {escape(text)}[/]", soft_wrap=True)


def tell_remarks(dataset: Dataset) -> None:
    """Write what a user should know about how a data set was loaded."""
    for remark in dataset.remarks:
        note(f"{dataset.name}: {remark}")


def amount(metric: str, value: float) -> str:
    """A cost in a unit that people read: `latency` in ms, `macs` in millions."""
    scale, unit = _SCALES[metric]
    return f"{value / scale:,.3f} {unit}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to standard output; columns after the first are aligned right. Square brackets in rows mark up."""
    say(f"[bold]{escape(title)}[/]")
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    RESULTS.print(table)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Show what an adaptation came to."""
    original, adapted = summary["original"], summary["adapted"]
    products = (original, adapted)
    rows = [
        *_cost_rows(products),
        ["MACs", *(amount("macs", product["macs"]) for product in products)],
        ["parameters", *(amount("params", product["params"]) for product in products)],
        ["hold-out accuracy", *(f"{product['holdout_accuracy']:.2%}" for product in products)],
        ["test accuracy", *(f"{product['test_accuracy']:.2%}" for product in products)],
    ]
    title = f"{summary['network']} on {summary['platform']} (tier: {summary['tier']}), data {summary['data']}"
    print_table(title, ["", "original", "adapted"], rows)
    budgets = [_budget_row(metric, budget) for metric, budget in summary["budget"].items()]
    print_table("Budgets", ["metric", "allowed", "measured", "interval", "verdict"], budgets)
    iterations = summary["iterations"]
    say(
        f"{_speedup(summary)}{_prediction_error(adapted)}; {counted(iterations, 'iteration')}, "
        f"{counted(summary['cost']['measurements'], 'measurement')} for predictions"
    )
    if summary["stopped"]:
        say(f"[yellow]the search ended above the budget by its prediction: {escape(summary['stopped'])}[/]")
    for metric, budget in summary["budget"].items():
        _say_if_not_met(metric, budget)


def _cost_rows(products: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for metric, key in (("latency", "latency_ns"), ("energy", "energy_pj")):
        for label, name in ((f"measured {metric}", key), (f"predicted {metric}", f"predicted_{key}")):
            if all(name in product for product in products):
                rows.append([label, *(amount(metric, product[name]) for product in products)])
    return rows


def _budget_row(metric: str, budget: Mapping[str, Any]) -> list[str]:
    found = budget["measured"]
    exact = found["low"] == found["high"]
    interval = "exact" if exact else f"{_judged(metric, found, 'low')} to {_judged(metric, found, 'high')}"
    return [metric, _judged(metric, found, "allowed"), _judged(metric, found, "value"), interval, budget["verdict"]]


def _say_if_not_met(metric: str, budget: Mapping[str, Any]) -> None:
    found = budget["measured"]
    allowed = _judged(metric, found, "allowed")
    if budget["verdict"] == "not met":
        say(f"[red]{metric} is above its budget: {_judged(metric, found, 'value')} measured, {allowed} allowed[/]")
    elif budget["verdict"] == "undecided":
        say(
            f"[yellow]{metric}: undecided whether the budget of {allowed} is met, as the measured value is only known "
            f"to be between {_judged(metric, found, 'low')} and {_judged(metric, found, 'high')}[/]"
        )


def _judged(metric: str, measured: Mapping[str, Any], field: str) -> str:
    """A value of a judgement: a share of the original's cost, or an amount."""
    value = measured[field]
    return f"{value:.3f}x" if measured["of_original"] else amount(metric, value)


def _speedup(summary: Mapping[str, Any]) -> str:
    speedup, tier = summary["speedup"], summary["tier"]
    says = "" if speedup["conclusive"] else "inconclusive: "
    if tier != "simulated":
        how = f"95 % interval {speedup['low']:.2f} to {speedup['high']:.2f}, interleaved"
    else:
        how = "exact"
    statuses = {summary[product]["latency_status"] for product in ("original", "adapted")}
    busy = ", on a busy machine" if statuses & {"contended", "unconverged"} else ""
    return f"measured speed-up {says}{speedup['ratio']:.2f}x ({how}, tier: {tier}{busy})"


def _prediction_error(adapted: Mapping[str, Any]) -> str:
    if "predicted_latency_ns" not in adapted:
        return "; latency was not predicted, as no budget limits it"
    return f"; prediction off by {adapted['predicted_latency_ns'] / adapted['latency_ns'] - 1:+.1%}"


def print_facts(facts: Mapping[str, Any]) -> None:
    """Write one fact a line, nested ones indented."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            say(f"[bold]{escape(str(name))}[/]")
            for inner, entry in value.items():
                say(f"  {inner}: {escape(str(entry))}")
        else:
            say(f"[bold]{name}[/]: {escape(str(value).strip())}")


def print_measurements(
    model: str,
    costs: Mapping[str, Measurement],
    details: Mapping[str, Any],
    layers: Sequence[LayerCost],
    as_json: bool,
) -> None:
    """Show each metric of a model with spread, status, tier and origin, and what else the platform tells."""
    if as_json:
        facts: dict[str, Any] = {
            "model": model,
            "metrics": {name: json.loads(cost.to_json()) for name, cost in costs.items()},
        }
        facts |= {"details": details} if details else {}
        facts |= {"layers": [asdict(layer) for layer in layers]} if layers else {}
        print_json(facts)
        return
    for name, cost in costs.items():
        say(f"{escape(model)}: {name} {amount(name, cost.value)} {_trust(cost)}")
    origins = dict.fromkeys(_origin(cost) for cost in costs.values())
    for origin in origins:
        say(escape(origin))
    if details.get("general_kernels"):
        say(f"[yellow]slow[/]: none of our schedules fits {escape(', '.join(details['general_kernels']))}")
    if "max_abs_difference" in details:
        say(f"result checked: differs from ONNX Runtime's by at most {details['max_abs_difference']:.1e}")
    if "instructions" in details:
        say(
            f"{details['instructions']:,} instructions, {details['instructions_per_cycle']:.2f} a cycle; "
            f"{details['caches'][0]['misses']:,} misses of L1, {details['dram_lines_read']:,} lines from memory"
        )
    if layers:
        _print_profile(layers, next(iter(costs.values())).tier)


def _trust(cost: Measurement) -> str:
    if cost.tier == "simulated":
        return f"(tier: {cost.tier}, deterministic)"
    width = "unknown" if cost.relative_half_width is None else f"{cost.relative_half_width:.1%}"
    return f"+- {width} ({cost.status}, tier: {cost.tier}; {cost.samples} blocks, {cost.clean_fraction:.0%} clean)"


def _origin(cost: Measurement) -> str:
    source = cost.provenance
    return f"platform {source.platform}: {source.runtime} {source.runtime_version} on {source.machine}, {source.date}"


def _print_profile(layers: Sequence[LayerCost], tier: str) -> None:
    total = sum(layer.latency_ns for layer in layers) or 1
    rows = [
        [
            escape(layer.name),
            layer.op,
            "" if layer.cycles is None else f"{layer.cycles:,}",
            amount("latency", layer.latency_ns),
            f"{layer.latency_ns / total:.1%}",
        ]
        for layer in layers
    ]
    print_table(f"Where the time goes (tier: {tier})", ["layer", "kind", "cycles", "latency", "share"], rows)


def print_fidelity(fidelity: Fidelity, as_json: bool) -> None:
    """Show simulated beside published latencies, with mean absolute errors."""
    from netadapt.measure.simulator.fidelity import REFERENCE_DTYPE

    boards = dict.fromkeys((entry.board, entry.core, entry.dtype) for entry in fidelity.comparisons)
    overall = fidelity.mean_absolute_error()
    cores = {core: fidelity.mean_absolute_error(core=core) for core in fidelity.cores}
    if as_json:
        entries = [{**asdict(entry), "error": entry.error} for entry in fidelity.comparisons]
        print_json(
            {
                "tier": "simulated",
                "dtype": REFERENCE_DTYPE,
                # JSON has no NaN.
                "mean_absolute_error": overall if cores else None,
                "mean_absolute_error_by_core": cores,
                "comparisons": entries,
            }
        )
        return
    networks = list(dict.fromkeys(entry.network for entry in fidelity.comparisons))
    rows = []
    for board, core, dtype in boards:
        cells = {
            entry.network: f"{entry.simulated_ms:.1f} / {entry.published_ms:.1f} ({entry.error:+.0%})"
            for entry in fidelity.comparisons
            if (entry.board, entry.core, entry.dtype) == (board, core, dtype)
        }
        error = fidelity.mean_absolute_error(dtype, core, board)
        rows.append([escape(board), core, dtype, *(cells.get(network, "") for network in networks), f"{error:.1%}"])
    title = "Simulated / published latency in ms (tier: simulated; published by others, measured on the boards)"
    print_table(title, ["board", "core", "dtype", *networks, "mean abs. error"], rows)
    if cores:
        by_core = ", ".join(f"{core} {error:.1%}" for core, error in cores.items())
        say(f"mean absolute error of the {REFERENCE_DTYPE} rows: {overall:.1%} ({by_core})")
    fitted = dict.fromkeys((entry.model, entry.fitted) for entry in fidelity.comparisons if entry.fitted)
    for model, fields in fitted:
        say(f"fitted to these latencies: {', '.join(fields)} of {model}")


def print_comparison(models: tuple[str, str], comparison: Comparison, as_json: bool) -> None:
    """Show which of two models is faster."""
    ratio, low, high = comparison.speedup
    if as_json:
        speedup = {"ratio": ratio, "low": low, "high": high}
        print_json({"a": models[0], "b": models[1], "speedup": speedup, **asdict(comparison)})
        return
    labels = zip("AB", models, (comparison.a_platform, comparison.b_platform), strict=True)
    rows = [
        [f"{letter}: {escape(model)}", platform, amount("latency", cost)]
        for (letter, model, platform), cost in zip(labels, (comparison.a_ns, comparison.b_ns), strict=True)
    ]
    print_table(f"Interleaved comparison (tier: {comparison.tier})", ["model", "platform", "latency"], rows)
    say(
        f"{comparison.verdict}: B is {ratio:.3f} times as fast as A (95 % interval {low:.3f} to {high:.3f}, "
        f"{comparison.pairs} pairs, {comparison.clean_fraction:.0%} of those taken undisturbed)"
    )
    if comparison.status == "contended":
        say("contended: other processes took much of the machine meanwhile, so that the interval is all that is known")


def print_entries(path: Path, entries: Iterable[Entry], as_json: bool) -> None:
    """Show how many entries a table has, by platform, metric and status."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for entry in entries:
        cost = entry.measurement
        counts[(cost.provenance.platform, cost.tier, cost.metric, cost.status)] += 1
    names = ("platform", "tier", "metric", "status")
    if as_json:
        kinds = [{**dict(zip(names, kind, strict=True)), "entries": count} for kind, count in sorted(counts.items())]
        print_json({"table": str(path), "kinds": kinds})
    else:
        print_table(str(path), [*names, "entries"], [[*kind, str(count)] for kind, count in sorted(counts.items())])


def print_layers(
    name: str, platform: Platform, unknown: Iterable[str], prediction: LayerPrediction, as_json: bool
) -> None:
    """Show a prediction layer by layer, with the parts that no layer has, `unknown` operations among them."""
    layers, total, correction = prediction.layers, prediction.total, prediction.correction
    operations = sorted(set(unknown))
    if as_json:
        parts = [{"workload": json.loads(workload.to_json()), "latency_ns": cost} for workload, cost in layers]
        print_json(
            {
                "network": name,
                "platform": platform.name,
                "tier": platform.tier,
                "layers": parts,
                "predicted_latency_ns": total,
                "fixed_part_ns": prediction.fixed_part,
                "correction": correction and asdict(correction),
                "unknown_operations": operations,
            }
        )
        return
    rows = [[str(workload), amount("latency", cost), f"{cost / total:.1%}"] for workload, cost in layers]
    fixed = total - sum(cost for _, cost in layers)
    rows += [["fixed part and correction", amount("latency", fixed), f"{fixed / total:.1%}"]]
    rows += [["all", amount("latency", total), "100.0%"]]
    title = f"{name}: predicted latency on {platform.name} (tier: {platform.tier})"
    print_table(title, ["layer", "latency", "share"], rows)
    if operations:
        say(f"in the fixed part: {', '.join(operations)}")
    if correction is None:
        say("not corrected by measurements of whole networks; --measure takes them")


def print_layer_comparison(name: str, comparison: NetworkComparison, as_json: bool) -> None:
    """Show each layer's cost on two platforms, and which one the second does worst."""
    whole, layers = comparison.whole, comparison.layers
    if as_json:
        entries = [{**asdict(layer), "workload": json.loads(layer.workload.to_json())} for layer in layers]
        print_json({"network": name, "layers": entries, "whole": asdict(whole)})
        return
    rows = [
        [str(layer.workload), amount("latency", layer.a_ns), amount("latency", layer.b_ns), f"{layer.ratio:.2f}"]
        for layer in layers
    ]
    sums = sum(layer.a_ns for layer in layers), sum(layer.b_ns for layer in layers)
    rows += [["sum of layers", *(amount("latency", cost) for cost in sums), f"{sums[1] / sums[0]:.2f}"]]
    rows += [
        [
            "whole network, measured",
            amount("latency", whole.a_ns),
            amount("latency", whole.b_ns),
            f"{whole.b_ns / whole.a_ns:.2f}",
        ]
    ]
    columns = ["layer", f"A: {whole.a_platform}", f"B: {whole.b_platform}", "B / A"]
    print_table(f"{name}: two platforms (tier: {whole.tier})", columns, rows)
    worst = max(layers, key=lambda layer: layer.ratio)
    say(f"{whole.b_platform} takes {worst.ratio:.2f} times as long at worst: {worst.workload}")


def print_accuracy(name: str, device: Device, correction: Correction, accuracy: Accuracy, as_json: bool) -> None:
    """Show how well a table predicts, and whether the machine was quiet enough to say so."""
    figures = {
        "mape": accuracy.mape,
        "bias": accuracy.bias,
        "worst": accuracy.worst,
        "within_5_percent": accuracy.share_within(0.05),
        "within_10_percent": accuracy.share_within(0.10),
        "spearman": accuracy.spearman,
        "noise_floor": accuracy.noise_floor,
    }
    if as_json:
        print_json(
            {
                "network": name,
                "platform": device.platform.name,
                "fingerprint": device.fingerprint,
                "tier": device.platform.tier,
                "conclusive": accuracy.conclusive,
                "correction": asdict(correction),
                **figures,
                "samples": [asdict(sample) for sample in accuracy.samples],
            }
        )
        return
    rows = [[title, format(figures[name], form)] for name, (title, form) in _ACCURACY.items()]
    corrected = "uncorrected"
    if correction.networks:
        corrected = (
            f"corrected by {counted(correction.networks, 'other network')} (mean error left {correction.residual:.1%})"
        )
    title = (
        f"{name} on {device.platform.name} (tier: {device.platform.tier}): predicted against measured latency of "
        f"{len(accuracy.samples)} random-width networks, {corrected}"
    )
    print_table(title, ["", "value"], rows)
    if not accuracy.conclusive:
        say(
            f"[yellow]inconclusive: two measurements of one network differ by {accuracy.noise_floor:.1%} on this "
            "machine, more than 5 %; try again when it is quiet[/]"
        )


def print_tuning(path: Path, platform: Platform, results: Sequence[Tuned], as_json: bool) -> None:
    """Show for each kernel what won, and what to do so that it is used."""
    if as_json:
        kernels = [
            {
                **result.kernel.model_dump(mode="json", exclude={"workload", "trace"}),
                "calls": result.calls,
                "new": result.new,
                "won": result.kernel.won,
            }
            for result in results
        ]
        print_json({"platform": platform.name, "tier": platform.tier, "records": str(path), "kernels": kernels})
        return
    rows = []
    for result in results:
        kernel = result.kernel
        best = "none" if kernel.best_ns is None else f"{kernel.best_ns / 1e3:,.1f}"
        compared = "" if kernel.ratio is None else "{:.3f} ({:.3f} to {:.3f})".format(*kernel.ratio)
        winner = "tuned" if kernel.won else "ours"
        times = [f"{kernel.ours_ns / 1e3:,.1f}", best, compared]
        rows.append([escape(kernel.name), str(result.calls), *times, winner, f"{kernel.wrong} of {kernel.trials}"])
    columns = ["kernel", "calls", "ours, us", "best trial, us", "interleaved ratio", "faster", "failed"]
    print_table(f"Kernels on {platform.name} (tier: {platform.tier})", columns, rows)
    won = sum(result.kernel.won for result in results)
    say(f"{won} of {len(results)} kernels are faster tuned; all are in {escape(str(path))}")
    if won:
        say(f'to use them, set tuning = "{escape(str(path.absolute()))}" in \\[runtime] of a platform definition')


def tell_fallback(asked: str, reason: str, used: str) -> None:
    """Say loudly that another platform than the one asked for is used."""
    REMARKS.print(
        f"[bold red]platform {asked} is not available ({reason}); everything below is from {used}[/]", soft_wrap=True
    )
