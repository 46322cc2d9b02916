"""Processes of this package that use TVM."""

from __future__ import annotations

import os
import sys

import netadapt


def command(module: str) -> list[str]:
    """The command line that runs the function `main` of a module of this package."""
    # TVM imports torch wherever it is installed, only for exchanging tensors; that takes longer than TVM itself.
    return [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; from {module} import main; main()"]


def environment() -> dict[str, str]:
    """The environment in which such a process finds this package where this process does, and all of TVM."""
    root = os.path.dirname(os.path.dirname(netadapt.__file__))
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    inherited = {name: value for name, value in os.environ.items() if name != "TVM_USE_RUNTIME_LIB"}
    return {**inherited, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
