"""What each proposal of an iteration is predicted to take, what it takes, and what it takes to make it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.case import Bench, Findings
from bench.runs import latency_ns, pre_trained
from bench.stages import Workshop
from bench.timing import measure_latency
from netadapt.lut.predictor import Predictor
from netadapt.network.network import AdaptableNetwork
from netadapt.results.schema import Figure
from netadapt.search.metrics import Estimated
from netadapt.search.proposals import Proposal, propose
from netadapt.train import Classification, TrainingOptions
from netadapt.train.data.types import Dataset
from netadapt.train.loop import evaluate, fine_tune

T = TypeVar("T")
_PARTS = ("choose_width_s", "choose_filters_s", "fine_tune_s", "evaluate_s")


def run(bench: Bench) -> Findings:
    """Make all proposals of a first iteration, each part timed, and measure each on the platform.

    Raises:
        NetAdaptError: a proposal could not be predicted, trained or measured.

    """
    parameters = bench.case.parameters
    network, dataset = pre_trained(parameters["network"], parameters["data"])
    predictor = Predictor(network, bench.device, bench.table, on_progress=bench.observer.measured)
    bench.observer.stage("calibrating")
    predictor.calibrate()
    original_ns = predictor.estimator(network.widths)
    limit_ns = parameters["limit"] * original_ns
    bench.observer.stage("choosing widths")
    proposals, choose_s = _timed(lambda: _propose(predictor, network.widths, limit_ns))
    bench.observer.stage("making proposals")
    made = []
    for number, proposal in enumerate(proposals, start=1):
        made.append(_make(bench, network, dataset, proposal, choose_s / len(proposals)))
        bench.observer.measured(number, len(proposals))
    bench.observer.stage("measuring proposals")
    measured = [_latency_ns(bench, predictor, proposal) for proposal in proposals]
    timed = measure_latency(
        bench.device,
        {"original": predictor.export(network.widths), "halved": predictor.export(_halved(predictor))},
        parameters["rounds"],
        bench.observer,
    )
    errors = [proposal.resources["latency"] / value - 1 for proposal, value in zip(proposals, measured, strict=True)]
    return Findings(
        figures={
            **{f"{name}_latency": figure for name, figure in timed.items()},
            **_figures(bench, errors, [value / limit_ns for value in measured]),
        },
        data={
            "network": network.name,
            "limit_ns": limit_ns,
            "original_ns": original_ns,
            "proposals": [
                {
                    "group": proposal.group,
                    "from_width": network.widths[proposal.group],
                    "width": proposal.widths[proposal.group],
                    "predicted_ns": proposal.resources["latency"],
                    "measured_ns": value,
                    "holdout_accuracy": parts["holdout_accuracy"],
                }
                for proposal, value, parts in zip(proposals, measured, made, strict=True)
            ],
        },
        headline="original_latency",
        host_figures=_host_figures(made),
        host_data={
            "proposals": [
                {"group": proposal.group, **{part: parts[part] for part in _PARTS}}
                for proposal, parts in zip(proposals, made, strict=True)
            ]
        },
    )


def _propose(predictor: Predictor, widths: dict[str, int], limit_ns: float) -> list[Proposal]:
    metric = Estimated("latency", predictor.estimator)
    return propose(0, widths, {"latency": limit_ns}, (metric,), predictor.allowed)


def _make(
    bench: Bench, network: AdaptableNetwork, dataset: Dataset, proposal: Proposal, choose_width_s: float
) -> dict[str, Any]:
    """Make a proposal as the search makes it, one thread; or what it was found to be before a stop of this session."""
    stage = Workshop(bench.session).stage("proposal", widths=proposal.widths)
    options = TrainingOptions(lr=bench.case.parameters["short_term_lr"])
    steps = bench.case.parameters["short_term_steps"]

    def make(folder: Path) -> Mapping[str, Any]:
        narrow = {proposal.group: proposal.widths[proposal.group]}
        module, filters_s = _timed(lambda: network.narrowed(network.module, narrow))
        _, fine_tune_s = _timed(
            partial(fine_tune, module, Classification(), dataset, steps=steps, options=options, seed=0)
        )
        found, evaluate_s = _timed(lambda: evaluate(module, Classification(), dataset.holdout, dataset))
        parts = (choose_width_s, filters_s, fine_tune_s, evaluate_s)
        return {**dict(zip(_PARTS, parts, strict=True)), "holdout_accuracy": found.score}

    torch.set_num_threads(1)
    return stage.do(make)


def _halved(predictor: Predictor) -> dict[str, int]:
    """Every group at half of its width, or the nearest that is allowed: a narrow network that no noise chooses."""
    original = predictor.network.widths
    return {
        group: min(choices, key=lambda width: abs(2 * width - original[group]))
        for group, choices in predictor.allowed.items()
    }


def _latency_ns(bench: Bench, predictor: Predictor, proposal: Proposal) -> int:
    return latency_ns(bench, predictor.network.name, proposal.widths, predictor.export(proposal.widths))


def _figures(bench: Bench, errors: list[float], of_limit: list[float]) -> dict[str, Figure]:
    return {
        "mean_absolute_error": Figure(
            value=statistics.fmean(map(abs, errors)),
            unit="share",
            better="lower",
            origin="derived",
            tolerance=0.001 if bench.repeatable else 0.05,
        ),
        "above_limit": Figure(
            value=sum(share > 1.02 for share in of_limit) / len(of_limit),
            unit="share",
            better="lower",
            origin="derived",
            tolerance=0.0 if bench.repeatable else 0.5,
        ),
        "proposals": Figure(value=len(errors), unit="count", better="neither", origin="counted"),
    }


def _host_figures(made: list[dict[str, Any]]) -> dict[str, Figure]:
    return {
        part.removesuffix("_s"): Figure(
            value=statistics.median(parts[part] for parts in made), unit="s", better="neither", origin="measured"
        )
        for part in _PARTS
    }


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started
