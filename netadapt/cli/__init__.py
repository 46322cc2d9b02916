"""The command line. Commands only: each reads its arguments, calls the package and shows what came back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import netadapt
from netadapt.cli import adapt, data, lut, measure, networks, platforms, report, results, simulator
from netadapt.cli.command import EXIT_ABOVE_BUDGET, EXIT_BAD_RESULTS, EXIT_ERROR, EXIT_INTERRUPTED
from netadapt.one_line import OneLineErrors

__all__ = ["EXIT_ABOVE_BUDGET", "EXIT_BAD_RESULTS", "EXIT_ERROR", "EXIT_INTERRUPTED", "app", "main"]

app = typer.Typer(
    name="netadapt",
    cls=OneLineErrors,
    help="Shrink a pre-trained CNN to what a device can afford, guided by measured costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# Without a name, a module's commands are those of `netadapt` itself. The help lists them in this order.
app.add_typer(adapt.app)
app.add_typer(measure.app)
app.add_typer(networks.app)
app.add_typer(report.app)
app.add_typer(platforms.app, name="platforms")
app.add_typer(lut.app, name="lut")
app.add_typer(data.app, name="data")
app.add_typer(simulator.app, name="simulator")
app.add_typer(results.app, name="results")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit", is_eager=True)] = False,
) -> None:
    """Shrink a pre-trained CNN to what a device can afford, guided by measured costs."""
    if version:
        typer.echo(netadapt.__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `netadapt` command."""
    sys.exit(app())
