"""The behaviour that all commands share: errors in one line, and exit codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec

import typer

from netadapt.errors import NetAdaptError
from netadapt.standard_output import only_results

EXIT_ERROR = 2
#: The adapted network costs more than a budget allows: measured, or counted.
EXIT_ABOVE_BUDGET = 3
#: Results that should not be published, or that are worse than before.
EXIT_BAD_RESULTS = 1
EXIT_INTERRUPTED = 130

P = ParamSpec("P")


def command(target: typer.Typer, name: str | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a function a command whose errors take one line, with exit code 2."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                with only_results() if kwargs.get("as_json") else nullcontext():
                    function(*args, **kwargs)
            except NetAdaptError as error:
                typer.echo(f"netadapt: {error}", err=True)
                raise typer.Exit(EXIT_ERROR) from None
            except KeyboardInterrupt:
                hint = "; go on with --resume" if "resume" in kwargs else ""
                typer.echo(f"netadapt: interrupted; what was finished is kept{hint}", err=True)
                raise typer.Exit(EXIT_INTERRUPTED) from None

        return target.command(name or function.__name__.replace("_", "-"))(guarded)

    return register
