"""The commands that measure a model, and make it faster: `netadapt measure` and `tune`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.models import model_of
from netadapt.cli.options import AsJson, Channels, Classes, PlatformOption, Seed, Weights

app = typer.Typer()


@command(app)
def measure(
    models: Annotated[list[str], typer.Argument(help="One ONNX file or network, or two to compare")],
    platform: Annotated[list[str] | None, typer.Option("--platform", "-p", help="One platform, or two")] = None,
    weights: Weights = None,
    classes: Classes = None,
    channels: Channels = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes, layer by layer")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model; two models, or one on two platforms, are compared interleaved."""
    from netadapt import arguments, terminal
    from netadapt.measure.compare import compare_models
    from netadapt.measure.device import open_device
    from netadapt.measure.platform import load_platform

    names = platform or ["ort-local"]
    if len(models) > 2 or len(names) > 2 or len(models) + len(names) > 3:
        raise typer.BadParameter("give one or two models on one platform, or one model on two platforms")
    if profile and len(models) + len(names) > 2:
        raise typer.BadParameter("--profile is of one model on one platform")
    for name in names:
        load_platform(name)
    arguments.check_models(models, weights, classes, channels)
    from netadapt.progress import live_progress

    files = [model_of(model, weights, classes, channels) for model in models]
    with live_progress() as progress, open_device(names[0], progress.waiting, terminal.tell_fallback) as first:
        progress.stage(f"measuring {' and '.join(models)}")
        if len(models) == len(names) == 1:
            costs, details = first.costs(files[0]), first.details(files[0])
            layers = first.profile(files[0]) if profile else []
            progress.finished({})
            terminal.print_measurements(models[0], costs, details, layers, as_json)
            return
        # A board serves one client at a time, so two models on one platform are loaded by one device.
        other = (
            open_device(names[1], progress.waiting, terminal.tell_fallback) if len(names) > 1 else nullcontext(first)
        )
        with other as second:
            comparison = compare_models(first, files[0], second, files[-1])
    terminal.print_comparison((models[0], models[-1]), comparison, as_json)


@command(app)
def tune(
    model: Annotated[str, typer.Argument(help="ONNX file or network whose kernels to tune")],
    platform: PlatformOption = "tvm-local",
    trials: Annotated[int, typer.Option(min=1, help="Candidates for each kernel")] = 64,
    kernels: Annotated[int | None, typer.Option(min=1, help="Only this many, of those that take most time")] = None,
    records: Annotated[
        Path | None, typer.Option(help="File of records; by default the platform's, in the user's data folder")
    ] = None,
    weights: Weights = None,
    classes: Classes = None,
    channels: Channels = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Search for kernels that are faster than ours on a platform. Can be stopped and started again."""
    from netadapt import arguments, terminal
    from netadapt.measure.model_file import model_bytes
    from netadapt.measure.platform import load_platform
    from netadapt.measure.tvm.compile import require_tvm
    from netadapt.measure.tvm.records import records_path

    loaded = load_platform(platform)
    arguments.check_models([model], weights, classes, channels)
    if records is not None:
        arguments.check_records(records)
    require_tvm()
    from netadapt.measure.tvm import tuning
    from netadapt.progress import live_progress

    named = getattr(loaded.runtime, "tuning", None) or loaded.name
    path = records or records_path(named)
    content = model_bytes(model_of(model, weights, classes, channels))
    with live_progress() as progress:
        results = tuning.tune(
            content, loaded, path, name=model, trials=trials, most_kernels=kernels, seed=seed, observer=progress
        )
    terminal.print_tuning(path, loaded, results, as_json)
