"""The budgets on a run's page: what each allows, what was measured, and the verdict."""

from __future__ import annotations

from netadapt.report import amounts
from netadapt.report.amounts import METRIC_UNITS
from netadapt.report.content import Cell, Origin, Remark, Table
from netadapt.search.record import MeasuredCost, Summary

_TONES = {"met": "good", "undecided": "warn", "not met": "warn"}


def budget_table(summary: Summary, origin: Origin) -> Table | None:
    """A row for each budget; None for a run of an older version, whose budgets were not judged."""
    rows = [
        _row(metric, budget.measured, budget.verdict)
        for metric, budget in summary.budget.items()
        if budget.measured and budget.verdict
    ]
    if not rows:
        return None
    return Table(
        "What each budget allows, and what the adapted network was measured (MACs and parameters: counted) to cost.",
        ("", "allowed", "measured", "interval", "verdict"),
        tuple(rows),
        origin,
        words=frozenset({0, 4}),
    )


def verdict_remarks(summary: Summary) -> list[Remark]:
    """Remarks that a reader must not miss: that a budget is not met, or that it is not known."""
    remarks = []
    if summary.stopped:
        remarks.append(Remark(f"The search stopped above its budget: {summary.stopped}.", "warn"))
    elif not summary.budget_met and not any(budget.verdict for budget in summary.budget.values()):
        remarks.append(Remark("The run stopped above its budget.", "warn"))
    return remarks + [
        Remark(_sentence(metric, budget.measured, budget.verdict), "warn")
        for metric, budget in summary.budget.items()
        if budget.measured and budget.verdict in ("undecided", "not met")
    ]


def search_remarks(summary: Summary) -> list[Remark]:
    """How the search went on after a measurement, and what was not predicted."""
    remarks = [
        Remark(
            f"The network of iteration {iteration} was within the budget as predicted, but not with certainty as "
            "measured: predictions were corrected by that, and the search went on."
        )
        for iteration in summary.corrected_after
    ]
    if summary.adapted.predicted_latency_ns is None:
        remarks.append(
            Remark(
                "No budget limits latency, so it was not predicted and no layers were measured: the original and the "
                "adapted network were measured at the end only."
            )
        )
    return remarks


def _row(metric: str, found: MeasuredCost, verdict: str) -> tuple[str | Cell, ...]:
    interval = "exact" if found.low == found.high else f"{_text(metric, found, found.low, found.high)}"
    return (
        metric,
        _text(metric, found, found.allowed),
        _text(metric, found, found.value),
        interval,
        Cell("", verdict, _TONES[verdict]),
    )


def _sentence(metric: str, found: MeasuredCost, verdict: str) -> str:
    allowed, value = _text(metric, found, found.allowed), _text(metric, found, found.value)
    if verdict == "not met":
        return f"The budget of {metric} is not met: {value} measured, {allowed} allowed."
    known = _text(metric, found, found.low, found.high)
    return f"Whether the budget of {metric} is met is undecided: {known} measured, {allowed} allowed."


def _text(metric: str, found: MeasuredCost, *values: float) -> str:
    """Values as shares of the original or as amounts; two are an interval."""
    if found.of_original:
        return " to ".join(f"{value:.3f}{amounts.TIMES}" for value in values)
    scale = amounts.scale_for([*values], METRIC_UNITS[metric])
    return " to ".join(scale.text(value) for value in values)
