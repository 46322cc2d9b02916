"""Processes of this package that use TVM, and how far they are confined: boards talk to them."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

import netadapt

#: Variables that such a process inherits; those of programs that it uses by how they begin. Credentials of the user's
#: lie in others.
_INHERITED = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
)
_INHERITED_PREFIXES = (
    *("LC_", "XDG_", "PYTHON", "NETADAPT_", "COVERAGE_"),
    *("TVM_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_", "ANDROID_", "ZIG_"),
)
#: Part of this machine's memory that such a process may take, and what it may take in any case.
_MEMORY_SHARE = 0.5
_LEAST_MEMORY_BYTES = 4 << 30


def command(module: str) -> list[str]:
    """The command line that runs the function `main` of a module of this package."""
    # TVM imports torch wherever it is installed, only for exchanging tensors; that takes longer than TVM itself.
    return [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; from {module} import main; main()"]


def environment() -> dict[str, str]:
    """The environment in which such a process finds this package where this process does, and all of TVM.

    It has nothing that the process does not need: anyone who answers at the address of a board may look for secrets.
    """
    root = os.path.dirname(os.path.dirname(netadapt.__file__))
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if (name in _INHERITED or name.startswith(_INHERITED_PREFIXES)) and name != "TVM_USE_RUNTIME_LIB"
    }
    return {**inherited, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def confine() -> None:
    """Limit the memory of this process and of all that it starts, and have it leave no image of it behind."""
    total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit_bytes = max(_LEAST_MEMORY_BYTES, int(_MEMORY_SHARE * total_bytes))
    # What is only reserved, as libraries are, does not count.
    for kind, most in ((resource.RLIMIT_DATA, limit_bytes), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        lowered = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # A system may lack one of them.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (lowered, lowered))
