"""Core models: what the instructions of a core cost, and what its caches and memory do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

#: Of the text that the plugin reads.
PLUGIN_TEXT_VERSION = 1


@dataclass(frozen=True)
class Form:
    """What every instruction of one form costs.

    Attributes:
        latency: cycles until the result can be used.
        uops: micro-operations that it takes of the core's width and window.
        accumulator_advance: cycles by which the addend of a multiply-add may be later than the factors.
        ports: sets of ports as bit masks, with the cycles for which one port of the set is taken.

    """

    latency: int
    uops: int
    accumulator_advance: int
    ports: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cache:
    """One level of data cache; `latency_cycles` come on top of an L1 hit."""

    size_bytes: int
    ways: int
    latency_cycles: int


@dataclass(frozen=True)
class Prefetch:
    """Streams followed, touches of neighbouring lines before one starts, and lines fetched ahead."""

    streams: int
    confidence: int
    degree: int


@dataclass(frozen=True)
class Energy:
    """Picojoules an event, and the power that flows all the time, in milliwatts.

    `integer`, `load`, `store`, `branch` and `simd` are what an instruction costs without its data: fetch, decoding and
    registers. A floating-point instruction costs `simd` and for each element `fp_fma_lane` or `fp_lane`. Accesses of
    caches are paid once for an instruction (L1) or a line (L2, L3), whether they hit or not.
    """

    integer: float
    load: float
    store: float
    branch: float
    fp_fma_lane: float
    fp_lane: float
    simd: float
    l1_access: float
    l2_access: float
    l3_access: float
    dram_line: float
    static_mw: float


@dataclass(frozen=True)
class Core:
    """A core on a board, as the simulator sees it; latencies are in cycles of its clock."""

    name: str
    title: str
    #: What QEMU is told to emulate, and what the guest's files name as its core.
    qemu_cpu: str
    shown_cpu: str
    mhz: int
    order: Literal["in-order", "out-of-order"]
    width: int
    window: int
    branch_penalty: int
    ports: tuple[str, ...]
    caches: tuple[Cache, ...]
    prefetch: Prefetch
    dram_latency_cycles: int
    dram_line_cycles: int
    store_buffer_lines: int
    energy: Energy
    forms: Mapping[str, Form]
    boards: tuple[str, ...]
    #: Fields whose numbers were fitted to published latencies of the board, such as "dram.latency_ns".
    fitted: tuple[str, ...]

    def plugin_text(self) -> str:
        """The core as the timing plugin reads it: one line a fact, integers only, forms last and sorted."""
        lines = [
            f"netadapt-core {PLUGIN_TEXT_VERSION}",
            f"order {self.order}",
            f"width {self.width}",
            f"window {self.window}",
            f"branch_penalty {self.branch_penalty}",
            f"ports {len(self.ports)}",
            f"store_buffer {self.store_buffer_lines}",
        ]
        lines += [f"cache {cache.size_bytes} {cache.ways} {cache.latency_cycles}" for cache in self.caches]
        lines.append(f"dram {self.dram_latency_cycles} {self.dram_line_cycles}")
        lines.append(f"prefetch {self.prefetch.streams} {self.prefetch.confidence} {self.prefetch.degree}")
        lines += [_form_line(text, self.forms[text]) for text in sorted(self.forms)]
        return "\n".join(lines) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of everything that changes a simulated cost, as 64 hexadecimal digits; titles and sources do not."""
        shown = [self.qemu_cpu, self.shown_cpu]
        facts = {"core": self.plugin_text(), "mhz": self.mhz, "cpu": shown, "energy": asdict(self.energy)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _form_line(text: str, form: Form) -> str:
    numbers = [form.latency, form.uops, form.accumulator_advance, len(form.ports)]
    ports = [f"{mask}:{cycles}" for mask, cycles in form.ports]
    return " ".join(["form", *map(str, numbers), *ports, "|", text])
