"""`netadapt simulator ...`: the simulated cores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.models import onnx_of
from netadapt.cli.options import AsJson

app = typer.Typer(help="The simulated cores.", no_args_is_help=True)


@command(app)
def fidelity(
    published: Annotated[Path, typer.Option("--csv", help="Published latencies: board, core, mhz, dtype, networks")],
    as_json: AsJson = False,
) -> None:
    """Compare simulated with published latencies of whole networks on real boards."""
    from netadapt import terminal
    from netadapt.measure.simulator.fidelity import assess, read_published

    boards = read_published(published)
    from netadapt.progress import live_progress

    with live_progress() as progress:
        progress.stage("simulating whole networks")
        result = assess(boards, lambda network: onnx_of(network, None, None, None), progress.measured)
    terminal.print_fidelity(result, as_json)
