"""NetAdapt: shrink a pre-trained CNN to what a phone or board can afford, guided by measured costs."""

from __future__ import annotations

__version__ = "0.1.0"
