from __future__ import annotations

import dataclasses

import pytest

from netadapt.measure.simulator.core import Energy
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.counts import CacheCounts, Counts
from netadapt.measure.simulator.energy import energy_parts_pj, energy_pj, latency_ns

ENERGY = Energy(
    integer=1.0,
    load=2.0,
    store=3.0,
    branch=0.5,
    fp_fma_lane=4.0,
    fp_lane=2.5,
    simd=6.0,
    l1_access=7.0,
    l2_access=20.0,
    l3_access=50.0,
    dram_line=1000.0,
    static_mw=100.0,
)
COUNTS = Counts(
    cycles=500,
    instructions=330,
    branches=20,
    mispredictions=2,
    bytes_loaded=640,
    bytes_stored=320,
    fma_lanes=200,
    fp_lanes=8,
    caches=(CacheCounts(70, 11), CacheCounts(8, 3)),
    dram_lines_read=3,
    dram_lines_written=2,
    mix={"integer": 150, "load": 60, "store": 30, "branch": 20, "fp_fma": 50, "fp_other": 5, "simd": 15},
    unmodelled={},
)


@pytest.fixture
def core():
    """At 500 MHz a cycle takes 2 ns."""
    return dataclasses.replace(load_core("cortex-a53"), energy=ENERGY, mhz=500)


def test_every_part_by_hand(core):
    assert energy_parts_pj(core, COUNTS) == {
        # 150 * 1 + 60 * 2 + 30 * 3 + 20 * 0.5, and 70 floating-point and vector instructions of 6 pJ.
        "instructions": 370 + 420,
        # 200 * 4 + 8 * 2.5
        "arithmetic": 820,
        # Loads and stores, not lines.
        "l1": 90 * 7,
        # Hits and misses alike.
        "l2": 11 * 20,
        "dram": 5 * 1000,
        # 100 mW for 1000 ns.
        "static": 100_000,
    }


def test_the_parts_sum_to_the_whole(core):
    assert energy_pj(core, COUNTS) == 790 + 820 + 630 + 220 + 5000 + 100_000


def test_a_third_level_is_paid_for_where_there_is_one(core):
    three = dataclasses.replace(COUNTS, caches=(*COUNTS.caches, CacheCounts(2, 1)))
    assert energy_parts_pj(core, three)["l3"] == 3 * 50
    assert energy_pj(core, three) == energy_pj(core, COUNTS) + 150


def test_a_core_with_one_level_pays_for_no_other(core):
    assert set(energy_parts_pj(core, dataclasses.replace(COUNTS, caches=COUNTS.caches[:1]))) == {
        *("instructions", "arithmetic", "l1", "dram", "static")
    }


def test_waiting_costs_static_power_only(core):
    waiting = dataclasses.replace(COUNTS, cycles=COUNTS.cycles + 50)
    # 50 cycles are 100 ns.
    assert energy_pj(core, waiting) - energy_pj(core, COUNTS) == 100 * 100


def test_the_whole_is_a_whole_number_of_picojoules(core):
    nothing = dataclasses.replace(COUNTS, fma_lanes=0, fp_lanes=1)
    # 2.5 less 820 of arithmetic: a half, to the even neighbour.
    assert energy_pj(core, nothing) == 106_642
    assert isinstance(energy_pj(core, nothing), int)


def test_latency_is_cycles_by_clock(core):
    assert latency_ns(core, 500) == 1000
    assert latency_ns(dataclasses.replace(core, mhz=1500), 1) == pytest.approx(2 / 3)
    assert latency_ns(core, 0) == 0


@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76"])
def test_the_further_away_the_dearer_on_every_bundled_core(name):
    energy = load_core(name).energy
    assert 0 < energy.integer < energy.l2_access < energy.dram_line
    assert energy.static_mw > 0
