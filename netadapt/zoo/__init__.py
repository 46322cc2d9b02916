"""Networks by name, and users' own. What needs torch is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from netadapt.zoo.spec import NETWORKS, NetworkSpec

if TYPE_CHECKING:
    from netadapt.zoo.factory import build
    from netadapt.zoo.resolution import ResolvedNetwork, resolve
    from netadapt.zoo.weight_files import load_weights

__all__ = ["NETWORKS", "NetworkSpec", "ResolvedNetwork", "build", "load_weights", "resolve"]

_HOMES = {
    "factory": ("build",),
    "resolution": ("ResolvedNetwork", "resolve"),
    "weight_files": ("load_weights",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
