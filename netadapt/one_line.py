"""Mistakes in what was typed take one line and exit code 2, as every other error does."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup


class OneLineErrors(TyperGroup):
    """A group of commands that says in one line what is wrong with its arguments, not in a box of five."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command that the arguments name, and exit unless it is `standalone_mode=False`."""
        if not extra.pop("standalone_mode", True):
            return super().main(*args, **{**extra, "standalone_mode": False})
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except typer.Abort:
            code = 1
        except Exception as error:
            # Recent versions of typer bring a click of their own, so its exceptions cannot be imported by name.
            if not hasattr(error, "format_message"):
                raise
            _tell(error)
            code = 2
        sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    typer.echo(f"netadapt: {message}{hint}", err=True)
