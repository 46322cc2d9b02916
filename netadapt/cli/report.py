"""`netadapt report`: write an HTML report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import command
from netadapt.cli.options import AsJson

app = typer.Typer()


@command(app)
def report(
    source: Annotated[Path, typer.Argument(help="A run folder of adapt, a run of cases, or a folder of those")],
    out: Annotated[Path | None, typer.Option(help="HTML file to write; by default in or beside SOURCE")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for the figures as SVG files, too")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report as one HTML file that needs no network."""
    from netadapt import terminal
    from netadapt.outputs import REPORT, require_output
    from netadapt.report.report import write_pictures, write_report

    page = out or (source / "report.html" if source.is_dir() else source.with_suffix(".html"))
    if source.exists():
        require_output(page, REPORT)
    written = write_report(source, page)
    drawn = write_pictures(source, pictures) if pictures else []
    if as_json:
        terminal.print_json({"report": str(written), "pictures": [str(path) for path in drawn]})
        return
    typer.echo(f"{written}: {written.stat().st_size:,} bytes; open it in a browser")
    for path in drawn:
        typer.echo(str(path))
