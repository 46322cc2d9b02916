"""Facts about this machine that explain its numbers, without its name or its user's."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import netadapt

_CPUINFO = Path("/proc/cpuinfo")


@cache
def cpu_model() -> str:
    """Tell the model of the CPU; virtual machines need family and model number to be told apart."""
    fields = _cpuinfo()
    name = fields.get("model name") or fields.get("Hardware") or platform.processor() or platform.machine()
    if "cpu family" in fields and "model" in fields:
        return f"{name} (family {fields['cpu family']} model {fields['model']})"
    return name


@cache
def vector_extension() -> str:
    """Name the widest vector extension, which CPU kernels choose their code path by."""
    fields = _cpuinfo()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    for name in ("avx512f", "avx2", "avx", "sve", "asimd"):
        if name in flags:
            return name
    return platform.machine()


def cores() -> int:
    """Count the logical cores."""
    return os.cpu_count() or 1


def operating_system() -> str:
    """Name the kernel and its release."""
    # What follows the numbers names a build, not a system.
    release = re.match(r"\d+(\.\d+)*", platform.release())
    return f"{platform.system()} {release.group() if release else ''}".strip()


@cache
def commit() -> str | None:
    """Tell the commit of the checkout that this package runs from, None when installed."""
    return commit_of(Path(netadapt.__file__).parent.parent)


def commit_of(root: Path) -> str | None:
    """Tell the commit of a checkout, with "+dirty" where the package differs from it; None where there is none."""
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return f"{head}+dirty" if _git(root, "status", "--porcelain", "--untracked-files=no", "netadapt") else head


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpuinfo() -> dict[str, str]:
    """Read the entry of the first core; empty where there is no such file."""
    try:
        lines = _CPUINFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
