"""`netadapt results ...`: results of benchmark cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.command import EXIT_BAD_RESULTS, EXIT_ERROR, command
from netadapt.cli.options import AsJson

app = typer.Typer(help="Results of benchmark cases.", no_args_is_help=True)


@command(app, "check")
def results_check(
    paths: Annotated[list[Path], typer.Argument(help="Runs, folders of platforms, or a folder of such folders")],
    as_json: AsJson = False,
) -> None:
    """Check results before they are published; exit code 1 for an error, 2 if one cannot be read."""
    from netadapt.results.check import check
    from netadapt.results.show import print_check

    runs, findings = check(paths)
    print_check(runs, findings, as_json)
    severities = {finding.severity for finding in findings}
    if severities & {"unreadable", "error"}:
        raise typer.Exit(EXIT_ERROR if "unreadable" in severities else EXIT_BAD_RESULTS)


@command(app, "compare")
def results_compare(
    a: Annotated[Path, typer.Argument(help="The older run: a file, or a platform's folder, whose newest is taken")],
    b: Annotated[Path, typer.Argument(help="The newer run, likewise")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also for what is NOT COMPARABLE")] = False,
    clock: Annotated[
        str, typer.Option(help="Of two folders: compare what this clock read, platform or host")
    ] = "platform",
    as_json: AsJson = False,
) -> None:
    """Show how B differs from A, figure by figure; exit code 1 if one is SLOWER or WORSE."""
    from netadapt.errors import UnknownNameError
    from netadapt.results.compare import compare_results, judge
    from netadapt.results.files import pick_pair, read_result
    from netadapt.results.show import print_comparison

    if clock not in ("platform", "host"):
        raise UnknownNameError("clock", clock, ("platform", "host"))
    first, second = pick_pair(a, b, clock)  # type: ignore[arg-type]
    comparison = compare_results(read_result(first), read_result(second))
    print_comparison(first, second, comparison, as_json)
    if not judge(comparison, strict).passed:
        raise typer.Exit(EXIT_BAD_RESULTS)


@command(app, "list")
def results_list(
    path: Annotated[Path, typer.Argument(help="A run, a platform's folder, or a folder of such folders")] = Path(
        "results"
    ),
    as_json: AsJson = False,
) -> None:
    """List runs with platform, tier, clock, profile and cases."""
    from netadapt.results.files import find_results
    from netadapt.results.show import print_runs

    print_runs(find_results(path), as_json)
