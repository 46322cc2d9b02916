"""What the timing plugin counts during one run of a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from netadapt.errors import MeasurementError


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Lines asked for of one level of cache, by the core or, from L2 on, by the prefetcher of the level before it."""

    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one run on one simulated core. Lines have 64 bytes."""

    cycles: int
    instructions: int
    branches: int
    mispredictions: int
    bytes_loaded: int
    bytes_stored: int
    #: Elements of fused multiply-adds, and of other floating-point arithmetic.
    fma_lanes: int
    fp_lanes: int
    #: L1 first.
    caches: tuple[CacheCounts, ...]
    dram_lines_read: int
    dram_lines_written: int
    #: Instructions by class: integer, load, store, branch, fp_fma, fp_other, simd.
    mix: dict[str, int]
    #: Executions of each form that the core's table lacks; they were taken to cost a cycle.
    unmodelled: dict[str, int]

    @property
    def instructions_per_cycle(self) -> float:
        """IPC."""
        return self.instructions / self.cycles if self.cycles else 0.0

    @property
    def unmodelled_share(self) -> float:
        """Share of the executed instructions whose form the core's table lacks."""
        return sum(self.unmodelled.values()) / self.instructions if self.instructions else 0.0

    @classmethod
    def from_report(cls, text: str) -> Counts:
        """Read the plugin's report.

        Raises:
            MeasurementError: it is not one, or several threads took part, which the plugin does not model.

        """
        try:
            fields: dict[str, Any] = json.loads(text)
            several_threads = fields.pop("several_threads")
            caches = tuple(CacheCounts(**level) for level in fields.pop("caches"))
            counts = cls(**fields, caches=caches)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MeasurementError(f"the timing plugin left no usable report ({error}): {text[:80]!r}") from error
        if several_threads:
            raise MeasurementError("the model ran on several threads; the simulator models one core")
        return counts
