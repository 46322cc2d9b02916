"""NetAdapt: shrink a pre-trained CNN to what a phone or board can afford, guided by measured costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netadapt.api import AdaptedNetwork, adapt

__version__ = "0.1.0"
__all__ = ["AdaptedNetwork", "__version__", "adapt"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for, so that `import netadapt` stays light."""
    if name in ("adapt", "AdaptedNetwork"):
        from netadapt import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
