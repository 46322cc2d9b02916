"""A section for each benchmark case: its pictures and tables, and all its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

from netadapt.report import amounts
from netadapt.report.amounts import NONE
from netadapt.report.case_data import (
    Ablation,
    Ablations,
    Determinism,
    EndToEnd,
    Fidelity,
    FoundBySearch,
    Iteration,
    LutAccuracy,
    ProposalCosts,
    ProposalLatency,
    RemadeProposals,
    Run,
    Search,
    SearchCost,
    SpeedupVsExhaustive,
    TimeOfSearch,
    TimesVsExhaustive,
    data_of,
)
from netadapt.report.content import Block, Cell, Origin, Picture, Remark, Section, Table, present
from netadapt.report.drawing import shortened
from netadapt.report.figures import agreement, layers, proposals, tradeoff
from netadapt.report.pictures import (
    agreement_picture,
    layers_picture,
    natural_order,
    proposals_picture,
    tradeoff_picture,
    widths_picture,
)
from netadapt.report.results_folder import Found
from netadapt.report.statuses import status_cell
from netadapt.results.pareto import pareto_front

_TITLES = {
    "lut_accuracy": "How well the table predicts",
    "proposal_latency": "Proposals of one iteration",
    "end_to_end_speedup": "Speed-up, end to end",
    "ablations": "What each choice is worth",
    "search_cost": "What a search costs",
    "speedup_vs_exhaustive": "The fast strategy against the paper's",
    "simulator_fidelity": "How near the simulator comes to boards",
    "determinism": "Whether digits repeat",
}
_ARROW = "\N{RIGHTWARDS ARROW}"
_LONGEST_VALUE = 32


def case_section(found: Found, origin: Origin, prefix: str) -> Section:
    """The section of a case; identifiers in it begin with `prefix`.

    Raises:
        ResultsError: the case's data is not what it should be.

    """
    build = _BUILDERS.get((found.case.id, found.file.clock))
    blocks = build(found, origin, f"{prefix}-{found.case.id}") if build else []
    title = _TITLES.get(found.case.id, found.case.id)
    if found.file.clock == "host":
        title += ": work of the host"
    return Section(f"{prefix}-{found.case.id}", title, present([*blocks, _figures(found, origin)]))


def _figures(found: Found, origin: Origin) -> Table | None:
    """All figures of a case, with their intervals and statuses."""
    rows = []
    for name, figure in found.case.figures.items():
        interval = NONE
        if figure.low is not None and figure.high is not None:
            interval = amounts.quantity_range(figure.low, figure.high, figure.unit)
        value = status_cell(amounts.quantity(figure.value, figure.unit), figure.status)
        rows.append((name.replace("_", " "), value, interval, str(len(figure.samples) or NONE), figure.origin))
    if not rows:
        return None
    columns = ("figure", "value", "95 % interval", "samples", "how")
    return Table(f"All figures of {found.case.id}.", columns, tuple(rows), origin, words=frozenset({0, 4}))


# --- lut_accuracy ---


def _lut_accuracy(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, LutAccuracy, found.path)
    return [_agreement(data, origin, prefix), _worst_layers(data, origin)]


def _agreement(data: LutAccuracy, origin: Origin, prefix: str) -> Picture | None:
    if not data.networks:
        return None
    random, run = (tuple((n.predicted_ns, n.measured_ns) for n in found) for found in (data.networks, data.run))
    noise = tuple((n.second_ns, n.first_ns) for n in data.noise)
    shown = agreement.Agreement(
        agreement.Pairs(f"{len(random)} random networks", random),
        agreement.Pairs(f"{len(run)} networks of a NetAdapt run", run),
        agreement.Pairs(f"noise floor (A/A): {len(noise)} measured twice", noise),
    )
    return agreement_picture(f"{prefix}-agreement", data.network, shown, origin)


def _worst_layers(data: LutAccuracy, origin: Origin) -> Table | None:
    if not data.layers:
        return None
    scale = amounts.scale_for([layer.measured_ns for layer in data.layers], "ns")
    rows = tuple(
        (
            layer.workload,
            scale.number(layer.predicted_ns),
            scale.number(layer.measured_ns),
            amounts.change(layer.predicted_ns / layer.measured_ns - 1) if layer.measured_ns > 0 else NONE,
            layer.how,
        )
        for layer in data.layers
    )
    return Table(
        f"The layers of {data.network} whose time the table is furthest off, the worst first.",
        ("layer", f"by the table, {scale.unit}", f"measured, {scale.unit}", "off by", "measured how"),
        rows,
        origin,
        f"latency in {scale.unit}",
        frozenset({0, 4}),
    )


# --- proposal_latency ---


def _proposal_latency(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, ProposalLatency, found.path)
    if not data.proposals:
        return []
    scale = amounts.scale_for([data.original_ns], "ns")
    best = max(proposal.holdout_accuracy for proposal in data.proposals)
    rows = tuple(
        (
            proposal.group,
            f"{proposal.from_width} {_ARROW} {proposal.width}",
            scale.number(proposal.predicted_ns),
            scale.number(proposal.measured_ns),
            amounts.change(proposal.predicted_ns / proposal.measured_ns - 1),
            _best(amounts.percent(proposal.holdout_accuracy, 2), proposal.holdout_accuracy == best),
        )
        for proposal in sorted(data.proposals, key=lambda proposal: natural_order(proposal.group))
    )
    columns = (
        "group",
        "channels",
        f"predicted, {scale.unit}",
        f"measured, {scale.unit}",
        "off by",
        "hold-out accuracy",
    )
    caption = (
        f"Every proposal of one iteration for {data.network}: at most {scale.text(data.limit_ns)} predicted, "
        f"{scale.text(data.original_ns)} before."
    )
    return [Table(caption, columns, rows, origin, f"latency in {scale.unit}")]


def _best(text: str, is_best: bool) -> str | Cell:
    return Cell(text, "best", "good") if is_best else text


def _proposal_costs(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, ProposalCosts, found.path)
    if not data.proposals:
        return []
    proposals_in_order = sorted(data.proposals, key=lambda proposal: natural_order(proposal.group))
    times = [(p.group, (p.choose_width_s, p.choose_filters_s, p.fine_tune_s, p.evaluate_s)) for p in proposals_in_order]
    times.append(("all together", tuple(sum(column) for column in zip(*(row for _, row in times), strict=True))))
    rows = tuple((group, *(_milliseconds(value) for value in row)) for group, row in times)
    columns = ("group", "choose its width, ms", "choose filters, ms", "fine-tune, ms", "evaluate, ms")
    return [Table("What each proposal took to make.", columns, rows, origin, "wall time in ms")]


def _milliseconds(seconds: float) -> str:
    return amounts.number(1000 * seconds)


# --- end_to_end_speedup ---


def _end_to_end(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, EndToEnd, found.path)
    shown = next((run for run in data.runs if run.driver == "latency"), next(iter(data.runs), None))
    return [
        _tradeoff(data, origin, prefix),
        _arms(data, origin),
        *([_widths(shown, origin, prefix), _proposals(shown, origin, prefix)] if shown else []),
        _layer_times(data, origin, prefix),
    ]


def _tradeoff(data: EndToEnd, origin: Origin, prefix: str) -> Picture | None:
    if not data.arms:
        return None
    described = f"networks of {data.network} on {data.data}, trained for {data.epochs.from_scratch:g} epochs altogether"
    seeds = len({network.seed for network in data.arms})
    return tradeoff_picture(f"{prefix}-tradeoff", _networks(data), described, seeds, origin)


def _networks(data: EndToEnd) -> list[tradeoff.Network]:
    return [tradeoff.Network(n.arm, n.label, n.latency_ns, n.test_accuracy) for n in data.arms]


def _arms(data: EndToEnd, origin: Origin) -> Table | None:
    if not data.arms:
        return None
    averaged = tradeoff.means(_networks(data))
    front = set(pareto_front(averaged))
    latency = amounts.scale_for([mean.latency_ns for mean in averaged], "ns")
    rows = []
    for mean in averaged:
        own = [network for network in data.arms if (network.arm, network.label) == (mean.arm, mean.label)]
        accuracies = [network.test_accuracy for network in own]
        rows.append(
            (
                tradeoff.ARM_TITLES[mean.arm],
                mean.label,
                latency.number(mean.latency_ns),
                Cell(amounts.percent(mean.accuracy, 2), "front" if mean in front else "", "good"),
                f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f}",
                amounts.number(fmean(network.macs for network in own) / 1e6),
                amounts.number(fmean(network.params for network in own) / 1e3),
                str(mean.networks),
            )
        )
    columns = (
        "arm", "network", f"latency, {latency.unit}", "test accuracy", "over seeds, %", "MACs, M",
        "parameters, k", "seeds",
    )  # fmt: skip
    caption = (
        "Means over the seeds of all arms; nothing is both faster and more accurate than what is marked as the front."
    )
    return Table(caption, columns, tuple(rows), origin, f"latency in {latency.unit}, measured", frozenset({0, 1}))


def _widths(run: Run, origin: Origin, prefix: str) -> Picture | None:
    accepted = [entry.widths for entry in run.iterations if entry.iteration > 0]
    if not accepted:
        return None
    return widths_picture(f"{prefix}-widths", run.original_widths, accepted, _of_run(run), origin)


def _proposals(run: Run, origin: Origin, prefix: str) -> Picture | None:
    original = next((entry for entry in run.iterations if entry.iteration == 0), None)
    steps = tuple(_step(entry) for entry in run.iterations if entry.iteration > 0)
    if original is None or not steps:
        return None
    start = proposals.Candidate(original.predicted_ns, original.holdout_accuracy)
    path = proposals.Path(start, steps, unit="ns", cost_name="latency")
    return proposals_picture(f"{prefix}-proposals", path, _of_run(run), origin)


def _step(entry: Iteration) -> proposals.Step:
    return proposals.Step(
        tuple(
            proposals.Candidate(candidate.predicted_ns, candidate.holdout_accuracy)
            for candidate in entry.proposals
            if candidate.predicted_ns is not None
            and (candidate.group, candidate.width) != (entry.group, entry.widths.get(entry.group or ""))
        ),
        proposals.Candidate(entry.predicted_ns, entry.holdout_accuracy),
    )


def _of_run(run: Run) -> str:
    return f" in the run driven by {'MACs' if run.driver == 'macs' else run.driver}, seed {run.seed}"


def _layer_times(data: EndToEnd, origin: Origin, prefix: str) -> Picture | None:
    if not data.layers.before:
        return None
    pairs = layers.pair(
        [(layer.workload, layer.latency_ns) for layer in data.layers.before],
        [(layer.workload, layer.latency_ns) for layer in data.layers.after],
    )
    return layers_picture(f"{prefix}-layers", pairs, origin)


# --- the tables ---


def _ablations(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, Ablations, found.path)
    if not data.rows:
        return []
    scale = amounts.scale_for([row.latency_ns for row in data.rows], "ns")
    groups: dict[tuple[str, str], list[Ablation]] = {}
    for row in data.rows:
        groups.setdefault((row.ablation, row.setting), []).append(row)
    rows = tuple(
        (
            ablation,
            setting,
            amounts.quantity(fmean(row.iterations for row in group), "count"),
            scale.number(fmean(row.latency_ns for row in group)),
            amounts.scale_for([fmean(row.macs for row in group)], "macs").text(fmean(row.macs for row in group)),
            amounts.percent(fmean(row.holdout_accuracy for row in group), 2),
            amounts.percent(fmean(row.test_accuracy for row in group), 2),
            str(len(group)),
        )
        for (ablation, setting), group in groups.items()
    )
    columns = (
        "choice", "setting", "iterations", f"latency, {scale.unit}", "MACs", "hold-out accuracy", "test accuracy",
        "seeds",
    )  # fmt: skip
    caption = "One choice changed at a time; means over the seeds."
    return [Table(caption, columns, rows, origin, f"latency in {scale.unit}, measured", frozenset({0, 1}))]


def _search_cost(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, SearchCost, found.path)
    if not data.runs:
        return []
    rows = tuple(
        (
            run.label,
            str(run.seed),
            str(run.workers),
            amounts.number(run.wall_s),
            amounts.number(run.training_s),
            amounts.change(run.wall_s * run.workers / run.training_s - 1) if run.training_s else NONE,
            f"{run.proposals:,}",
            f"{run.measurements:,}",
        )
        for run in data.runs
    )
    columns = (
        "run",
        "seed",
        "workers",
        "wall time, s",
        "training in all workers, s",
        "worker time beyond training",
        "proposals",
        "measurements",
    )
    return [Table("What searches took.", columns, rows, origin, "time in s")]


# --- speedup_vs_exhaustive ---

_Search = TypeVar("_Search", bound=Search)


def _by_way(runs: Iterable[_Search]) -> dict[tuple[str, str], list[_Search]]:
    """Runs by network and way, each with all seeds."""
    ways: dict[tuple[str, str], list[_Search]] = {}
    for run in runs:
        ways.setdefault((run.network, run.way), []).append(run)
    return ways


def _found_by_searches(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, SpeedupVsExhaustive, found.path)
    if not data.runs:
        return []
    scale = amounts.scale_for([run.latency_ns for run in data.runs], "ns")
    rows = tuple(
        (
            network,
            way,
            amounts.number(fmean(run.iterations for run in runs)),
            amounts.number(fmean(run.proposals for run in runs)),
            scale.number(fmean(run.latency_ns for run in runs)),
            _met(runs),
            amounts.percent(fmean(run.holdout_accuracy for run in runs), 2),
            amounts.percent(_mean_accuracy(runs), 2),
            _over_seeds([100 * run.test_accuracy for run in runs], 2),
            str(len(runs)),
        )
        for (network, way), runs in _by_way(data.runs).items()
    )
    columns = (
        "network", "way", "iterations", "proposals", f"latency, {scale.unit}", "within budget", "hold-out accuracy",
        "test accuracy", "over seeds, %", "seeds",
    )  # fmt: skip
    caption = f"What each way to search found on {data.data}; means over the seeds."
    return [Table(caption, columns, rows, origin, f"latency in {scale.unit}, measured", frozenset({0, 1}))]


def _met(runs: Sequence[FoundBySearch]) -> str | Cell:
    met = sum(run.budget_met for run in runs)
    return "yes" if met == len(runs) else Cell(f"{met} of {len(runs)}", "above budget", "warn")


def _over_seeds(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else NONE


def _times_of_searches(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, TimesVsExhaustive, found.path)
    return [_strategies(data, origin), _ideas(data.runs, origin)]


def _strategies(data: TimesVsExhaustive, origin: Origin) -> Table | None:
    """The two strategies with all seeds, and the way of the authors' code."""
    if not data.runs:
        return None
    ways = _by_way(run for run in data.runs if run.idea is None)
    rows = [(network, way, *_times(runs, ways[network, "paper"])) for (network, way), runs in ways.items()]
    rows += [_reference(entry, ways[entry.network, "paper"]) for entry in data.reference]
    columns = (
        "network", "way", "search, s", "over seeds, s", "times as fast as paper", "whole run, s", "proposals",
        "test accuracy", "over seeds, %", "seeds",
    )  # fmt: skip
    caption = (
        "What searches took, means over the seeds. In the way of the authors' code, a new process makes each "
        "proposal and loads everything anew: told from some proposals of a paper run."
    )
    ordered = tuple(sorted(rows, key=lambda row: [network for network, _ in ways].index(row[0])))
    return Table(caption, columns, ordered, origin, "wall time in s", frozenset({0, 1}))


def _times(runs: Sequence[TimeOfSearch], paper: Sequence[TimeOfSearch]) -> tuple[str, ...]:
    seconds = [run.search_s for run in runs]
    return (
        amounts.number(fmean(seconds)),
        _over_seeds(seconds, 0),
        amounts.ratio(_times_as_fast(runs, paper)),
        amounts.number(fmean(run.wall_s for run in runs)),
        amounts.number(fmean(run.proposals for run in runs)),
        amounts.percent(_mean_accuracy(runs), 2),
        _over_seeds([100 * run.test_accuracy for run in runs], 2),
        str(len(runs)),
    )


def _times_as_fast(runs: Sequence[TimeOfSearch], paper: Sequence[TimeOfSearch]) -> float:
    """Mean over the seeds that both have."""
    exhaustive = {run.seed: run.search_s for run in paper}
    return fmean(exhaustive[run.seed] / run.search_s for run in runs if run.seed in exhaustive)


def _reference(entry: RemadeProposals, paper: Sequence[TimeOfSearch]) -> tuple[str, ...]:
    ratio = paper[0].search_s / entry.extrapolated_s
    return (
        entry.network,
        f"authors' code, from {entry.made} of {entry.proposals} proposals",
        amounts.number(entry.extrapolated_s),
        NONE,
        amounts.ratio(ratio),
        NONE,
        amounts.number(entry.proposals),
        NONE,
        NONE,
        "1",
    )


def _ideas(runs: Sequence[TimeOfSearch], origin: Origin) -> Table | None:
    """What each idea contributes, told by its absence, with the seeds for which that was asked."""
    seeds = {run.seed for run in runs if run.idea is not None}
    ways = _by_way(run for run in runs if run.seed in seeds)
    if not ways:
        return None
    rows = tuple(
        (
            network,
            way,
            amounts.number(fmean(run.search_s for run in found)),
            amounts.ratio(_times_as_fast(found, ways[network, "paper"])),
            amounts.percent(_mean_accuracy(found), 2),
            amounts.points(_mean_accuracy(found) - _mean_accuracy(ways[network, "paper"])),
            str(len(found)),
        )
        for (network, way), found in ways.items()
    )
    columns = (
        "network", "way", "search, s", "times as fast as paper", "test accuracy", "against paper", "seeds",
    )  # fmt: skip
    caption = "What each idea of the fast way contributes: without it, all others as they are."
    return Table(caption, columns, rows, origin, "wall time in s", frozenset({0, 1}))


def _mean_accuracy(runs: Sequence[Search]) -> float:
    return fmean(run.test_accuracy for run in runs)


def _fidelity(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, Fidelity, found.path)
    if not data.networks:
        return []
    errors = [network.simulated_ns / network.published_ns - 1 for network in data.networks]
    rows = tuple(
        (
            network.board,
            network.core,
            network.network,
            network.dtype,
            amounts.number(network.published_ns / 1e6),
            amounts.number(network.simulated_ns / 1e6),
            amounts.change(error),
        )
        for network, error in zip(data.networks, errors, strict=True)
    )
    columns = ("board", "core", "network", "type", "published, ms", "simulated, ms", "off by")
    caption = (
        f"Simulated latency against the latency that others published for boards: mean error "
        f"{amounts.percent(fmean(map(abs, errors)))}, bias {amounts.change(fmean(errors))}, {len(rows)} networks."
    )
    return [
        Table(
            caption,
            columns,
            rows,
            origin,
            "latency in ms; the published ones are of tier device",
            frozenset({0, 1, 2, 3}),
        )
    ]


def _determinism(found: Found, origin: Origin, prefix: str) -> list[Block | None]:
    data = data_of(found.case, Determinism, found.path)
    if not data.digits:
        return []
    different = sum(digits.first != digits.second for digits in data.digits)
    rows = tuple(
        (
            digits.what,
            _value(digits.first),
            Cell(_value(digits.second), "equal", "good")
            if digits.first == digits.second
            else Cell(_value(digits.second), "different", "warn"),
        )
        for digits in data.digits
    )
    verdict = f"{different} of {len(rows)} differ." if different else f"All {len(rows)} are equal, digit by digit."
    table = Table("What two runs gave.", ("what", "first run", "second run"), rows, origin)
    return [Remark(verdict, "warn" if different else ""), table]


def _value(value: object) -> str:
    """A digit, or the widths of a network, as far as there is room."""
    text = ", ".join(str(entry) for entry in value.values()) if isinstance(value, dict) else str(value)
    return shortened(text, _LONGEST_VALUE)


_Builder = Callable[[Found, Origin, str], list[Block | None]]
_BUILDERS: dict[tuple[str, str], _Builder] = {
    ("lut_accuracy", "platform"): _lut_accuracy,
    ("proposal_latency", "platform"): _proposal_latency,
    ("proposal_latency", "host"): _proposal_costs,
    ("end_to_end_speedup", "platform"): _end_to_end,
    ("ablations", "platform"): _ablations,
    ("search_cost", "host"): _search_cost,
    ("speedup_vs_exhaustive", "platform"): _found_by_searches,
    ("speedup_vs_exhaustive", "host"): _times_of_searches,
    ("simulator_fidelity", "platform"): _fidelity,
    ("determinism", "platform"): _determinism,
}
