"""The report of a run of `netadapt adapt`: finished, above its budget, or still in progress."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property

from netadapt.errors import NetAdaptError
from netadapt.measure.platform import load_platform
from netadapt.report import amounts
from netadapt.report.amounts import METRIC_UNITS, NONE, TIMES
from netadapt.report.content import (
    Block,
    Cell,
    Facts,
    Headline,
    Origin,
    Page,
    Picture,
    Remark,
    Section,
    Table,
    present,
)
from netadapt.report.figures import layers, proposals
from netadapt.report.pictures import layers_picture, proposals_picture, widths_picture
from netadapt.report.run_folder import RunRecord
from netadapt.report.run_verdicts import budget_table, search_remarks, verdict_remarks
from netadapt.report.statuses import explained, status_cell
from netadapt.search.record import Config, Summary
from netadapt.search.strategy import STRATEGIES
from netadapt.wording import counted

_ARROW = "\N{RIGHTWARDS ARROW}"
_METRIC_NAMES = {"latency": "latency", "energy": "energy", "macs": "MACs", "params": "parameters"}


def run_page(run: RunRecord) -> Page:
    """The page of a run."""
    return _RunPage(run).page()


@dataclass(frozen=True)
class _RunPage:
    run: RunRecord

    def page(self) -> Page:
        config = self.run.config
        goal = ", ".join(f"{_METRIC_NAMES[metric]} to {goal}" for metric, goal in self._goals)
        return Page(
            title=f"{config.network}: {goal}",
            kicker="NetAdapt run" if self.run.summary else "NetAdapt run, in progress",
            lead=self._lead(),
            command=command(self.run),
            tier=self.origin.tier,
            headlines=self._headlines(),
            remarks=self._remarks(),
            sections=tuple(section for section in self._sections() if section.blocks),
        )

    def _lead(self) -> str:
        config = self.run.config
        done = len(self.run.accepted)
        state = counted(done, "iteration") + ("" if self.run.summary else " so far")
        kept = {
            "accuracy": "the most accurate proposal within the step's limit is kept",
            "ratio": "the proposal that loses least accuracy for what it saves is kept",
        }
        rule = kept.get(config.selection, f"selection rule: {config.selection}")
        return (
            f"{config.network}, adapted for {config.platform} with the images of {config.data} in {state}. "
            f"{_narrowing(config.strategy.groups)}; {rule}."
        )

    # --- numbers at the top ---

    def _headlines(self) -> tuple[Headline, ...]:
        if self.run.summary:
            return _results(self.run.summary)
        if self.run.started is None:
            return ()
        start = self.run.started
        last = self.run.accepted[-1] if self.run.accepted else None
        resources, score = (last.resources, last.score) if last else (start.resources, start.score)
        costs = [
            Headline(
                f"predicted {_METRIC_NAMES[metric]} so far",
                amounts.percent(resources[metric] / start.resources[metric], 0),
                f"of the original's {_amount(metric, start.resources[metric])}; the goal is {budget}",
            )
            for metric, budget in self._goals
            if metric in resources
        ]
        accuracy = Headline(
            "hold-out accuracy so far",
            amounts.percent(score, 2),
            f"{amounts.points(score - start.score)} against the original",
        )
        return (*costs, accuracy)

    def _remarks(self) -> tuple[Remark, ...]:
        run, remarks = self.run, []
        if run.summary is None:
            remarks.append(
                Remark("This run has not ended: nothing was tested or measured at its end yet. Resume it to finish.")
            )
        else:
            remarks += verdict_remarks(run.summary)
        if run.summary and run.summary.requested_platform != run.summary.platform:
            remarks.append(
                Remark(
                    f"Platform {run.summary.requested_platform} was asked for; {run.summary.platform} took its place, "
                    f"and all numbers are of its tier, {run.summary.tier}.",
                    "warn",
                )
            )
        return tuple(remarks)

    # --- the sections ---

    def _sections(self) -> list[Section]:
        return [
            Section("result", "What came out", present([self._budgets(), self._costs(), *self._remarks_on_search()])),
            Section("search", "How it got there", present([self._path(), self._widths(), self._iterations()])),
            Section("time", "Where the time goes", present([self._layers()])),
            Section("trust", "How far to trust it", self._trust()),
            Section("made", "What it was measured on", present([self._card()])),
        ]

    def _budgets(self) -> Table | None:
        return budget_table(self.run.summary, self.origin) if self.run.summary else None

    def _remarks_on_search(self) -> list[Remark]:
        return search_remarks(self.run.summary) if self.run.summary else []

    def _costs(self) -> Table | None:
        summary = self.run.summary
        if summary is None:
            return None
        pair = (summary.original, summary.adapted)
        rows: list[tuple[str | Cell, ...]] = []
        for metric, unit in (("latency", "ns"), ("energy", "pJ")):
            name = f"{metric}_{unit.lower()}"
            measured = [product.cost(name) if metric != "latency" else product.latency_ns for product in pair]
            if None in measured:
                continue
            statuses = [str(product.cost(f"{metric}_status") or product.latency_status) for product in pair]
            rows.append(_row(f"{metric}, measured", measured, unit, statuses))
            predicted = [
                product.predicted_latency_ns if metric == "latency" else product.cost(f"predicted_{name}")
                for product in pair
            ]
            known = [value for value in predicted if value is not None]
            if len(known) == len(pair):
                rows.append(_row(f"{metric}, predicted", known, unit, ["", ""]))
                errors = [value / real - 1 for value, real in zip(known, measured, strict=True)]
                rows.append((f"{metric}, prediction off by", *map(amounts.change, errors), NONE))
        rows.append(_row("MACs", [product.macs for product in pair], "macs", ["", ""]))
        rows.append(_row("parameters", [product.params for product in pair], "params", ["", ""]))
        rows += [
            _accuracy_row("hold-out accuracy", pair[0].holdout_accuracy, pair[1].holdout_accuracy),
            _accuracy_row(
                f"test accuracy ({pair[0].test_images:,} images)", pair[0].test_accuracy, pair[1].test_accuracy
            ),
        ]
        return Table(
            "Both networks, measured whole. The test split was read once, at the end.",
            ("", "original", "adapted", "change"),
            tuple(rows),
            self.origin,
        )

    def _path(self) -> Picture | None:
        run, metric = self.run, self._metric
        if run.started is None or metric is None or not (run.accepted or run.proposals):
            return None
        return proposals_picture("proposals", self._way(metric), "", self.origin)

    def _way(self, metric: str) -> proposals.Path:
        run = self.run
        assert run.started
        accepted = {entry.iteration - 1: entry for entry in run.accepted}
        made: dict[int, list[proposals.Candidate]] = {}
        for entry in run.proposals:
            proposal = entry.outcome.proposal
            chosen = accepted.get(proposal.iteration)
            if entry.outcome.dropped or (chosen and chosen.widths == proposal.widths):
                continue
            made.setdefault(proposal.iteration, []).append(
                proposals.Candidate(proposal.resources[metric], entry.outcome.score)
            )
        steps = [
            proposals.Step(
                tuple(made.get(index, ())),
                proposals.Candidate(accepted[index].resources[metric], accepted[index].score)
                if index in accepted
                else None,
            )
            for index in sorted({*made, *accepted})
        ]
        last = run.accepted[-1] if run.accepted else None
        return proposals.Path(
            original=proposals.Candidate(run.started.resources[metric], run.started.score),
            steps=tuple(steps),
            unit=METRIC_UNITS[metric],
            cost_name=_METRIC_NAMES[metric],
            limit=run.summary.budget[metric].limit if run.summary else None,
            fine_tuned=proposals.Candidate(last.resources[metric], run.fine_tuned.score)
            if run.fine_tuned and last
            else None,
        )

    def _widths(self) -> Picture | None:
        run = self.run
        if not run.accepted or not run.original_widths:
            return None
        return widths_picture("widths", run.original_widths, [entry.widths for entry in run.accepted], "", self.origin)

    def _iterations(self) -> Table | None:
        run, metric = self.run, self._metric
        if not run.accepted or run.started is None or metric is None:
            return None
        tried: dict[int, set[str]] = {}
        for proposed in run.proposals:
            index = proposed.outcome.proposal.iteration
            tried.setdefault(index, set()).add(proposed.outcome.proposal.group)
        before, rows = run.original_widths, []
        for entry in run.accepted:
            groups = [group for group in entry.widths if before and entry.widths[group] != before[group]]
            rows.append(
                (
                    str(entry.iteration),
                    ", ".join(groups) or entry.group,
                    ", ".join(f"{before[group]} {_ARROW} {entry.widths[group]}" for group in groups) or NONE,
                    _amount(metric, entry.resources[metric]),
                    amounts.percent(entry.resources[metric] / run.started.resources[metric], 1),
                    amounts.percent(entry.score, 2),
                    str(len(tried.get(entry.iteration - 1, ()))),
                )
            )
            before = entry.widths
        return Table(
            "What each iteration narrowed, and what that made of the network.",
            (
                "iteration",
                "group",
                "channels",
                f"predicted {_METRIC_NAMES[metric]}",
                "of the original",
                "hold-out accuracy",
                "proposals",
            ),
            tuple(rows),
            self.origin,
            f"{metric} predicted; accuracy evaluated on the hold-out split",
            words=frozenset({0, 1}),
        )

    def _layers(self) -> Picture | None:
        summary = self.run.summary
        if summary is None or not (summary.original.layers and summary.adapted.layers):
            return None
        before, after = (
            [(layer.workload, layer.latency_ns) for layer in product.layers]
            for product in (summary.original, summary.adapted)
        )
        return layers_picture("layers", layers.pair(before, after), self.origin)

    def _trust(self) -> tuple[Block, ...]:
        run = self.run
        if run.started is None:
            return ()
        rows = [
            (
                metric,
                f"{correction.scale:.3f}",
                _amount(metric, correction.offset),
                str(correction.networks),
                amounts.percent(correction.residual, 2),
            )
            for metric, correction in sorted(run.started.corrections.items())
        ]
        fitted = Table(
            "What whole networks cost beyond the sum of their layers: prediction = scale \N{MULTIPLICATION SIGN} "
            "(layers + a run that computes nothing) + offset, fitted on measured networks.",
            ("metric", "scale", "offset", "networks", "mean error left"),
            tuple(rows),
            self.origin,
        )
        blocks: list[Block] = [fitted] if rows else []
        if run.summary:
            blocks.append(_effort(run.summary))
            blocks += [Remark(text) for text in _exceptions(run.summary)]
        return tuple(blocks)

    def _card(self) -> Facts:
        config, origin = self.run.config, self.origin
        rows = [("platform", config.platform), ("tier", origin.tier), ("fingerprint", config.fingerprint)]
        if self.run.summary:
            seen = self.run.summary.adapted.provenance
            rows += [
                ("runtime", f"{seen.runtime} {seen.runtime_version}"),
                ("machine", f"{seen.machine}, {seen.os}"),
                ("protocol version", str(seen.protocol_version)),
                ("netadapt", seen.netadapt + (f", commit {seen.commit}" if seen.commit else "")),
                ("measured on", seen.date),
            ]
        rows += [("seed", str(config.seed)), ("selection rule", config.selection)]
        return Facts("Platform", tuple((name, value) for name, value in rows if value), _prose(config.platform))

    # --- what they share ---

    @cached_property
    def origin(self) -> Origin:
        """Where the numbers of the run come from."""
        summary = self.run.summary
        if summary is None:
            config = self.run.config
            remarks = (f"fingerprint {config.fingerprint}", "run in progress")
            return Origin(_tier(config.platform), config.platform, remarks=remarks)
        seen = summary.adapted.provenance
        return Origin(
            tier=summary.tier,
            platform=summary.platform,
            requested=summary.requested_platform,
            runtime=f"{seen.runtime} {seen.runtime_version}",
            commit=seen.commit or "",
            date=seen.date,
        )

    @property
    def _goals(self) -> list[tuple[str, str]]:
        """Each limited metric with its goal."""
        pairs = [budget.split("=") for budget in self.run.config.budgets]
        return [(metric, _goal(metric, amount)) for metric, amount in pairs]

    @property
    def _metric(self) -> str | None:
        """The limited metric that figures show: latency if it is limited."""
        limited = [metric for metric, _ in self._goals]
        return "latency" if "latency" in limited else next(iter(limited), None)


def command(run: RunRecord) -> str:
    """The command line that asks for such a run, in lines that fit on a page."""
    config, pace = run.config, run.config.pace
    short, long = config.short_term, config.long_term
    first_step = "" if pace.initial_reduction is None else f"--initial-reduction {pace.initial_reduction:g}"
    budgets = [f"--budget {_with_unit(budget)}" for budget in config.budgets]
    lines = [
        [f"netadapt adapt {shlex.quote(config.network)}", f"--data {shlex.quote(config.data)}"],
        [
            f"--platform {shlex.quote(config.platform)}",
            *budgets,
        ],
        [
            _strategy(config),
            f"--iterations {pace.iterations}",
            f"--decay {pace.decay:g}",
            first_step,
            f"--selection {config.selection}",
        ],
        [f"--steps {short.steps}", f"--lr {short.options.lr:g}"],
        [f"--long-steps {long.steps}", f"--long-lr {long.options.lr:g}", f"--batch {short.options.batch_size}"],
        [f"--seed {config.seed}", "" if config.correction else "--no-correction", "--out RUN"],
    ]
    return " \\\n    ".join(" ".join(word for word in line if word) for line in lines)


def _strategy(config: Config) -> str:
    """The option that asks for the run's strategy; none for one that has no name."""
    named = (f"--strategy {name}" for name, strategy in STRATEGIES.items() if strategy == config.strategy)
    return next(named, "")


def _narrowing(groups: int) -> str:
    return (
        "Each iteration narrows one channel group"
        if groups == 1
        else f"Iterations narrow about {groups} channel groups"
    )


def _with_unit(budget: str) -> str:
    """The budget as the command line takes it: an absolute one has lost its unit."""
    metric = budget.split("=")[0]
    units = {"latency": "ns", "energy": "pj"}
    return budget if budget.endswith("x") else budget + units.get(metric, "")


def _goal(metric: str, amount: str) -> str:
    """The amount of a budget, relative or not, as people read it."""
    return amount.replace("x", TIMES) if amount.endswith("x") else _amount(metric, float(amount))


def _results(summary: Summary) -> tuple[Headline, ...]:
    original, adapted, speedup = summary.original, summary.adapted, summary.speedup
    scale = amounts.scale_for([original.latency_ns], "ns")
    interval = (
        f"95 % interval {amounts.ratio(speedup.low)} to {amounts.ratio(speedup.high)}, interleaved pairs"
        if summary.tier != "simulated"
        else "exact"
    )
    headlines = [
        Headline(
            "measured speed-up",
            amounts.ratio(speedup.ratio) if speedup.conclusive else "inconclusive",
            interval if speedup.conclusive else f"{amounts.ratio(speedup.ratio)}, {interval}",
            "" if speedup.conclusive and speedup.verdict != "AMBIGUOUS" else "warn",
        ),
        Headline(
            "latency",
            f"{scale.number(original.latency_ns)} {_ARROW} {scale.text(adapted.latency_ns)}",
            _statuses(summary),
            "warn" if status_cell("", original.latency_status, adapted.latency_status).tone else "",
        ),
        Headline(
            "test accuracy",
            f"{amounts.percent(adapted.test_accuracy, 2)}",
            f"{amounts.points(adapted.test_accuracy - original.test_accuracy)} against the original's "
            f"{amounts.percent(original.test_accuracy, 2)}",
        ),
    ]
    if adapted.predicted_latency_ns is not None:
        headlines.append(
            Headline(
                "prediction off by",
                amounts.change(adapted.predicted_latency_ns / adapted.latency_ns - 1),
                f"the table said {scale.text(adapted.predicted_latency_ns)} for the adapted network",
            )
        )
    return tuple(headlines)


def _statuses(summary: Summary) -> str:
    """How far the measured latencies can be trusted; simulated ones have no spread that could be narrow."""
    if summary.tier in ("simulated", "emulated"):
        return f"{summary.tier}: every run gives the same"
    first, second = summary.original.latency_status, summary.adapted.latency_status
    if first == second:
        return f"measured, both {explained(first)}"
    return f"measured, {explained(first)} and {explained(second)}"


def _effort(summary: Summary) -> Table:
    cost = summary.cost
    return Table(
        "What the run took on the machine that made it.",
        ("", "amount"),
        (
            ("wall time", amounts.quantity(cost.wall_seconds, "s")),
            ("training and evaluation, all workers together", amounts.quantity(cost.training_seconds, "s")),
            ("proposals", f"{cost.proposals:,}"),
            ("layers and networks measured for the table", f"{cost.measurements:,}"),
        ),
        unit="time of the machine that ran the search, not of the platform",
    )


def _exceptions(summary: Summary) -> list[str]:
    left_out = [f"{group.group} kept its width: {group.reason}." for group in summary.left_out]
    dropped = [
        f"In iteration {drop.iteration + 1} the proposal for {drop.group} was dropped: {drop.reason}."
        for drop in summary.cost.dropped_proposals
    ]
    unknown = ", ".join(summary.unknown_operations)
    return left_out + dropped + ([f"Operations without a model of their own: {unknown}."] if unknown else [])


def _row(name: str, values: list[int], unit: str, statuses: list[str]) -> tuple[str | Cell, ...]:
    scale = amounts.scale_for(values, unit)
    cells = [status_cell(scale.text(value), status) for value, status in zip(values, statuses, strict=True)]
    return (name, *cells, amounts.change(values[1] / values[0] - 1))


def _accuracy_row(name: str, original: float, adapted: float) -> tuple[str | Cell, ...]:
    return name, amounts.percent(original, 2), amounts.percent(adapted, 2), amounts.points(adapted - original)


def _amount(metric: str, value: float) -> str:
    return amounts.scale_for([value], METRIC_UNITS[metric]).text(value)


def _tier(platform: str) -> str:
    """Of a run that does not say it yet; the platform may have been defined on another machine."""
    try:
        return load_platform(platform).tier
    except NetAdaptError:
        return "not known here"


def _prose(platform: str) -> str:
    """What the platform's definition says about itself, where it is known."""
    try:
        return load_platform(platform).card
    except NetAdaptError:
        return ""
