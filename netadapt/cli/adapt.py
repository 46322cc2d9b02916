"""`netadapt adapt`: shrink a network to a budget."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import EXIT_ABOVE_BUDGET, command
from netadapt.cli.options import (
    AsJson,
    Data,
    DeviceOption,
    Flip,
    Mean,
    Network,
    NoCorrection,
    PlatformOption,
    Precision,
    PreprocessingPlace,
    Seed,
    Std,
    TableFile,
    Weights,
)

app = typer.Typer()


@command(app)
def adapt(
    network: Network,
    data: Data,
    budget: Annotated[list[str], typer.Option(help="latency=0.6x, latency=20ms, macs=3M, params=0.5x; repeatable")],
    out: Annotated[Path, typer.Option(help="Run folder")],
    platform: PlatformOption = "ort-local",
    weights: Weights = None,
    selection: Annotated[str, typer.Option(help="accuracy (the paper) or ratio")] = "accuracy",
    strategy: Annotated[str, typer.Option(help="fast, or paper (Algorithm 1 as published)")] = "fast",
    iterations: Annotated[int, typer.Option(help="Steps in which the budget is reached")] = 20,
    decay: Annotated[float, typer.Option(help="Each step is this times the one before")] = 0.96,
    initial_reduction: Annotated[
        float | None, typer.Option(help="First step as a share of the original cost, instead of --iterations deciding")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Batches of each proposal's short-term fine-tune")] = 100,
    long_steps: Annotated[int, typer.Option(min=0, help="Batches of the final long-term fine-tune")] = 1000,
    lr: Annotated[float, typer.Option(help="Highest learning rate of the short-term fine-tune")] = 0.005,
    long_lr: Annotated[float, typer.Option(help="Highest learning rate of the long-term fine-tune")] = 0.005,
    batch: Annotated[int, typer.Option(min=2, help="Images in a batch")] = 128,
    workers: Annotated[
        str, typer.Option(help="Processes that make proposals, or ray, ray:NUMBER, ray://HOST:PORT")
    ] = str(os.cpu_count() or 1),
    device: DeviceOption = "cpu",
    precision: Precision = "float32",
    flip: Flip = True,
    mean: Mean = None,
    std: Std = None,
    preprocessing: PreprocessingPlace = "caller",
    seed: Seed = 0,
    no_correction: NoCorrection = False,
    table: TableFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one")] = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a pre-trained network to a budget, and measure what that gained; exit code 3 if it is above the budget."""
    from netadapt import arguments, terminal
    from netadapt.measure.platform import load_platform
    from netadapt.network.preprocessing import is_in_model, note_for_deployment
    from netadapt.search.budget import Pace, parse_budgets, require_metrics
    from netadapt.search.executors.workers import Workers
    from netadapt.search.journal import require_free
    from netadapt.search.selection import selection_rule
    from netadapt.search.strategy import find_strategy
    from netadapt.train import check_dataset
    from netadapt.train.data.normalisation import parse_normalisation

    # What can be wrong without loading anything comes first, torch among it.
    require_free(out, resume)
    limited = [parsed.metric for parsed in parse_budgets(budget)]
    require_metrics(load_platform(platform), limited)
    selection_rule(selection)
    way = find_strategy(strategy)
    pace = Pace(iterations, decay, initial_reduction)
    for rate in (lr, long_lr):
        arguments.check_training(rate, batch, precision, device)
    arguments.check_network(network, weights)
    check_dataset(data)
    is_in_model(preprocessing)
    normalisation = parse_normalisation(mean, std)
    arguments.check_run_folder(out)
    arguments.check_table(table)
    Workers.parse(workers).require()

    from netadapt.api import adapt as adapt_network
    from netadapt.by_name import load_network_and_data
    from netadapt.progress import live_progress
    from netadapt.search.trainer import Training
    from netadapt.train import Augmentation, TrainingOptions
    from netadapt.train.device import training_device

    training_device(device)
    training = TrainingOptions(lr, batch, augmentation=Augmentation(flip=flip), precision=precision)  # type: ignore[arg-type]
    short_term, long_term = Training(steps, training), Training(long_steps, replace(training, lr=long_lr))
    resolved, dataset = load_network_and_data(network, data, weights, normalisation)
    with live_progress() as progress:
        if not resolved.pretrained:
            progress.note(f"{network} has no bundled weights for {data} and none were given: it starts untrained")
        adapted = adapt_network(
            resolved.module,
            resolved.example_input,
            dataset,
            budget=budget,
            out=out,
            platform=platform,
            selection=selection,  # type: ignore[arg-type]
            strategy=way,
            pace=pace,
            short_term=short_term,
            long_term=long_term,
            workers=workers,
            device=device,
            seed=seed,
            correction=not no_correction,
            preprocessing=preprocessing,  # type: ignore[arg-type]
            table=table,
            resume=resume,
            name=resolved.name,
            observer=progress,
        )
    if as_json:
        terminal.print_json(adapted.summary)
    else:
        terminal.print_summary(adapted.summary)
        terminal.say(f"adapted network: {adapted.onnx}")
        if facts := adapted.summary.get("preprocessing"):  # a run that an older version finished has none
            typer.echo(note_for_deployment(facts))
    if adapted.summary["verdict"] == "not met":
        raise typer.Exit(EXIT_ABOVE_BUDGET)
