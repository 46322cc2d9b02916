"""Energy of a run, from what was counted and the constants of the core."""

from __future__ import annotations

from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.counts import Counts


def energy_parts_pj(core: Core, counts: Counts) -> dict[str, float]:
    """Energy of one run in pJ, by where it goes: instructions, arithmetic, each cache, main memory, static power.

    Every event costs the same wherever it happens; the constants and their sources are in the core file.
    """
    constants, mix = core.energy, counts.mix
    floating = mix["fp_fma"] + mix["fp_other"] + mix["simd"]
    parts = {
        "instructions": mix["integer"] * constants.integer
        + mix["load"] * constants.load
        + mix["store"] * constants.store
        + mix["branch"] * constants.branch
        + floating * constants.simd,
        "arithmetic": counts.fma_lanes * constants.fp_fma_lane + counts.fp_lanes * constants.fp_lane,
        "l1": (mix["load"] + mix["store"]) * constants.l1_access,
    }
    accesses = (constants.l2_access, constants.l3_access)
    for number, (level, access_pj) in enumerate(zip(counts.caches[1:], accesses, strict=False), start=2):
        parts[f"l{number}"] = (level.hits + level.misses) * access_pj
    parts["dram"] = (counts.dram_lines_read + counts.dram_lines_written) * constants.dram_line
    # mW times ns are pJ.
    parts["static"] = constants.static_mw * latency_ns(core, counts.cycles)
    return parts


def energy_pj(core: Core, counts: Counts) -> int:
    """Energy of one run in pJ."""
    return round(sum(energy_parts_pj(core, counts).values()))


def latency_ns(core: Core, cycles: int) -> float:
    """Time of some cycles in ns."""
    return cycles * 1000 / core.mhz
