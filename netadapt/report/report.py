"""Write the report of a run or of benchmark results."""

from __future__ import annotations

from pathlib import Path

from netadapt.errors import NetAdaptError, ResultsError, RunError
from netadapt.files import write_atomically
from netadapt.outputs import PICTURE, require_output
from netadapt.report.content import Page
from netadapt.report.html import html_of, svg_file


def write_report(source: Path, out: Path) -> Path:
    """Write one HTML file that needs nothing else, not even a network, and give its path back.

    Args:
        source: folder of a run of `netadapt adapt`, finished or not; or a results file, the folder of a platform's
            results, or a folder of such folders.
        out: the file to write; one that is there is replaced.

    Raises:
        RunError, ResultsError: `source` is neither, is damaged or of a newer version, or `out` cannot be written.
            Nothing is left half-written.

    """
    _write(out, html_of(read_page(source)), RunError if _is_run(source) else ResultsError)
    return out


def write_pictures(source: Path, folder: Path) -> list[Path]:
    """Write the report's figures as SVG files of their own, each with its title and origin; give back their paths.

    Raises:
        RunError, ResultsError: see `write_report`.
        OutputError: a file of such a name is there that is no picture of a report.

    """
    pictures = {folder / f"{picture.name}.svg": svg_file(picture) for picture in read_page(source).pictures()}
    for path in pictures:
        require_output(path, PICTURE)
    for path, text in pictures.items():
        _write(path, text, RunError if _is_run(source) else ResultsError)
    return list(pictures)


def read_page(source: Path) -> Page:
    """What the report of `source` consists of.

    Raises:
        RunError, ResultsError: it is neither a run nor results, damaged, or of a newer version.

    """
    if _is_run(source):
        from netadapt.report.run_folder import read_run
        from netadapt.report.run_page import run_page

        return run_page(read_run(source))
    from netadapt.report.results_folder import read_platforms
    from netadapt.report.results_page import results_page

    return results_page(read_platforms(source), source)


def _is_run(source: Path) -> bool:
    return (source / "config.json").is_file()


def _write(path: Path, text: str, error_type: type[NetAdaptError]) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise error_type(f"{path}: the report cannot be written there: {error.strerror or error}") from error
