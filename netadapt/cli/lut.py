"""`netadapt lut ...`: the look-up table of measured layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.options import AsJson, Channels, Classes, Network, NoCorrection, PlatformOption, Seed, TableFile
from netadapt.wording import counted

if TYPE_CHECKING:
    from netadapt.lut.predictor import Predictor
    from netadapt.progress import LiveProgress

app = typer.Typer(help="The look-up table of measured layers.", no_args_is_help=True)


@command(app, "build")
def lut_build(
    network: Network,
    platform: PlatformOption = "ort-local",
    points: Annotated[int, typer.Option(min=1, help="Widths of each channel group")] = 6,
    classes: Classes = None,
    channels: Channels = None,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure a network's layers ahead, on a grid of widths. Can be stopped and started again."""
    _check_predictor(network, [platform], table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.ahead import workloads_ahead

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.stage("measuring layers")
        wanted = workloads_ahead(predictor.network.plan, predictor.allowed, points)
        path = predictor.table.path
        report = predictor.fill(wanted)
    if as_json:
        terminal.print_json(asdict(report))
    else:
        typer.echo(
            f"{path}: {counted(report.requested, 'workload')}, {report.present} were there, "
            f"{report.measured} measured, {report.contended} of them on a busy machine"
        )


@command(app, "show")
def lut_show(
    network: Annotated[str | None, typer.Argument(help="Show the prediction of this network, layer by layer")] = None,
    platform: PlatformOption = "ort-local",
    classes: Classes = None,
    channels: Channels = None,
    no_correction: NoCorrection = False,
    measure_missing: Annotated[bool, typer.Option("--measure", help="Measure what the table lacks for it")] = False,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the table, or a network's prediction layer by layer."""
    from netadapt import arguments, terminal
    from netadapt.lut.store import Table

    if network is None:
        arguments.check_table(table, must_exist=True)
        with Table.open(table) as opened:
            terminal.print_entries(opened.path, opened.entries(), as_json)
        return
    _check_predictor(network, [platform], table, classes, channels)
    if measure_missing:
        _show_measured_layers(network, platform, table, classes, channels, not no_correction, as_json)
        return
    arguments.check_table(table, must_exist=True)
    from netadapt.by_name import analysed
    from netadapt.lut.stored import MissingEntriesError, stored_prediction
    from netadapt.measure.platform import load_platform
    from netadapt.progress import live_progress

    loaded = load_platform(platform)
    with live_progress() as progress, Table.open(table) as opened:
        found = analysed(network, classes, channels, progress)
        try:
            prediction = stored_prediction(found, loaded, opened, not no_correction)
        except MissingEntriesError as error:
            raise MissingEntriesError(
                f"{error} for {network} on {loaded.name}; add --measure to measure them"
            ) from None
    terminal.print_layers(network, loaded, found.plan.unknown, prediction, as_json)


@command(app, "compare")
def lut_compare(
    network: Network,
    platform: Annotated[list[str], typer.Option("--platform", "-p", help="Two platforms of one tier, A and B")],
    classes: Classes = None,
    channels: Channels = None,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare a network's layers on two platforms, or in two runtimes of one, and the whole network."""
    if len(platform) != 2:
        raise typer.BadParameter("give two platforms: -p A -p B")
    first, second = platform
    _check_predictor(network, platform, table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.comparison import compare_layers
    from netadapt.progress import live_progress

    with (
        live_progress() as progress,
        _predictor(network, first, table, classes, channels, progress) as a,
        _predictor(network, second, table, classes, channels, progress) as b,
    ):
        progress.stage("comparing")
        comparison = compare_layers(a, b)
    terminal.print_layer_comparison(network, comparison, as_json)


@command(app, "export")
def lut_export(
    file: Annotated[Path, typer.Argument(help="JSON file to write")],
    platform: Annotated[str | None, typer.Option("--platform", "-p", help="Only this platform's entries")] = None,
    table: TableFile = None,
) -> None:
    """Write the table to a canonical JSON file."""
    from netadapt import arguments
    from netadapt.lut.store import Table
    from netadapt.measure.device import fingerprint
    from netadapt.measure.platform import load_platform
    from netadapt.outputs import TABLE_FILE, require_output

    require_output(file, TABLE_FILE)
    arguments.check_table(table, must_exist=True)
    only = fingerprint(load_platform(platform)) if platform else None
    with Table.open(table) as opened:
        typer.echo(f"{file}: {opened.export_json(file, only)} entries")


@command(app, "import")
def lut_import(
    file: Annotated[Path, typer.Argument(help="JSON file that `lut export` wrote")], table: TableFile = None
) -> None:
    """Take the entries of an exported table into the table."""
    from netadapt.lut.store import Table

    with Table.open(table) as opened:
        merge = opened.import_json(file)
    typer.echo(f"{opened.path}: {merge.added} entries added, {merge.replaced} replaced, {merge.kept} kept as they were")


@command(app, "accuracy")
def lut_accuracy(
    network: Network,
    platform: PlatformOption = "ort-local",
    networks: Annotated[int, typer.Option(min=2, help="Random-width networks to predict and measure")] = 50,
    seed: Seed = 0,
    classes: Classes = None,
    channels: Channels = None,
    no_correction: NoCorrection = False,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare predicted and measured latency on random-width networks."""
    _check_predictor(network, [platform], table, classes, channels)
    from netadapt import terminal
    from netadapt.lut.accuracy import assess

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.expect({"measuring random-width networks": None})
        progress.stage("calibrating")
        correction = predictor.calibrate(not no_correction)
        progress.stage("measuring random-width networks")
        accuracy = assess(predictor, networks, seed)
    terminal.print_accuracy(network, predictor.device, correction, accuracy, as_json)


def _check_predictor(
    network: str, platforms: list[str], table: Path | None, classes: int | None, channels: int | None
) -> None:
    from netadapt import arguments
    from netadapt.measure.platform import load_platform
    from netadapt.search.budget import require_metrics

    for platform in platforms:
        require_metrics(load_platform(platform), ["latency"])
    arguments.check_network(network, None, classes, channels)
    arguments.check_table(table)


def _show_measured_layers(
    network: str,
    platform: str,
    table: Path | None,
    classes: int | None,
    channels: int | None,
    corrected: bool,
    as_json: bool,
) -> None:
    from netadapt import terminal
    from netadapt.lut.stored import prediction_of

    with _progress_and_predictor(network, platform, table, classes, channels) as (progress, predictor):
        progress.stage("measuring layers and networks")
        correction = predictor.calibrate(corrected)
        prediction = prediction_of(predictor.estimator, predictor.network, correction)
    terminal.print_layers(network, predictor.device.platform, predictor.network.plan.unknown, prediction, as_json)


@contextmanager
def _progress_and_predictor(
    network: str, platform: str, table: Path | None, classes: int | None, channels: int | None
) -> Iterator[tuple[LiveProgress, Predictor]]:
    from netadapt.progress import live_progress

    with live_progress() as progress, _predictor(network, platform, table, classes, channels, progress) as predictor:
        yield progress, predictor


def _predictor(
    network: str,
    platform: str,
    table: Path | None,
    classes: int | None,
    channels: int | None,
    progress: LiveProgress,
) -> AbstractContextManager[Predictor]:
    from netadapt import terminal
    from netadapt.by_name import open_predictor

    return open_predictor(network, platform, table, classes, channels, terminal.tell_fallback, progress)
