"""`netadapt data ...`: data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import command

app = typer.Typer(help="Data sets.", no_args_is_help=True)


@command(app, "fetch")
def data_fetch(
    source: Annotated[Path | None, typer.Option("--from", help="A folder that has the files already")] = None,
    to: Annotated[Path | None, typer.Option(help="Where to put them; by default the user's data folder")] = None,
) -> None:
    """Fetch the full Fashion-MNIST: from a folder, the Debian package or its public address; checksums verified."""
    from netadapt.progress import live_progress
    from netadapt.train import fetch_fashion_mnist
    from netadapt.train.data.fashion_mnist import user_folder

    with live_progress() as progress:
        folder = fetch_fashion_mnist(source, to or user_folder(), progress.stage, progress.counted)
    typer.echo(f"fashion-mnist is in {folder}")
