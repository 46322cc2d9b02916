"""The bundled cores do what such cores can, and no more: arithmetic, latencies of caches, bandwidth, a GEMM."""

from __future__ import annotations

import machine_code as a64
import pytest
from machine_code import DATA, add_imm, fmla, mov
from simulator_fixtures import WARM_UP, Simulator, loop, mark, region
from test_plugin import chase, ring

from netadapt.measure.simulator.core_file import load_core

#: Floating-point operations a cycle: lanes of the units for multiply-adds, two operations each.
PEAK = {"cortex-a53": 8, "cortex-a55": 8, "cortex-a72": 8, "cortex-a76": 16}
#: The share of it that a GEMM must reach; on in-order cores much depends on the order of its instructions.
GEMM_SHARE = {"cortex-a53": 0.3, "cortex-a55": 0.3, "cortex-a72": 0.6, "cortex-a76": 0.6}
MB = 1 << 20


@pytest.fixture
def simulator(installation, tmp_path):
    return Simulator(installation, tmp_path)


def flop_a_cycle(counts):
    return 2 * counts.fma_lanes / counts.cycles


def peak(simulator, core):
    """Multiply-adds alone, into sixteen registers."""
    return flop_a_cycle(simulator.run(core, region(loop(1, 500, [fmla(16 + n, n % 8, 8) for n in range(16)]))))


def gemm(simulator, core):
    """8x8 outputs, from panels that lie in L1: a k step loads 8 elements of each and multiplies them.

    Loads of a step are spread between the multiply-adds of the one before, as in a library's kernel.
    """
    steps = []
    for step in range(2):
        now, following = 8 * step, 8 - 8 * step
        for number in range(16):
            row, column = number // 2, number % 2
            steps.append(a64.fmla_element(16 + number, now + 2 + column, now + row // 4, row % 4))
            if number % 4 == 0:
                steps.append(a64.ldr_q_post(following + number // 4, 1 if number < 8 else 2, 16))
    panel = [mov(1, DATA), mov(2, DATA + (8 << 10)), loop(4, 64, steps, label="step")]
    first = [mov(1, DATA), loop(3, 16 << 4, a64.ldr_post(2, 1, 64), label="first touch")]
    return flop_a_cycle(simulator.run(core, mark(WARM_UP), first, region(loop(3, 4, panel, label="panel"))))


def latency(simulator, core, size_bytes):
    """Cycles a load of a chase through so many bytes, which were gone through before."""
    lines = size_bytes // 64
    # Of the golden ratio: no line is near one of the last few.
    stride = round(lines * 0.618) | 1
    loads = 1 << 14
    program = [ring(lines, stride), mark(WARM_UP), chase(lines), region(loop(3, loads // 8, *[a64.ldr(1, 1)] * 8))]
    return simulator.run(core, program, data_bytes=size_bytes).cycles / loads


def copied_mb_a_second(simulator, core):
    """Of a buffer of 4 MB, far more than the caches hold; read and written bytes both count."""
    size = 4 * MB
    moves = [[a64.ldp_q(0, 1, 1, 32 * n), a64.stp_q(0, 1, 2, 32 * n)] for n in range(4)]
    step = [*moves, add_imm(1, 1, 128), add_imm(2, 2, 128)]
    program = [mov(1, DATA), mov(2, DATA + size + 4096 + 256), region(loop(3, size // 128, step))]
    counts = simulator.run(core, program, data_bytes=2 * size + 2 * 4096)
    return 2 * size * core.mhz / counts.cycles


@pytest.mark.parametrize("name", PEAK)
def test_multiply_adds_run_at_the_peak_of_the_core(simulator, name):
    assert peak(simulator, load_core(name)) == pytest.approx(PEAK[name], rel=0.03)


@pytest.mark.parametrize("name", PEAK)
def test_a_gemm_stays_below_the_peak_but_not_far(simulator, name):
    found = gemm(simulator, load_core(name))
    assert GEMM_SHARE[name] * PEAK[name] < found < PEAK[name]


@pytest.mark.parametrize("name", PEAK)
def test_a_pointer_chase_shows_each_level_of_cache(simulator, name):
    core = load_core(name)
    hit = core.forms["ldr x [x #]"].latency
    for cache in core.caches:
        # Half of the level: the one before holds only a part of it, by least recent use none.
        assert latency(simulator, core, cache.size_bytes // 2) == pytest.approx(hit + cache.latency_cycles, rel=0.03)
    expected = hit + core.dram_latency_cycles
    assert latency(simulator, core, 16 * MB) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", PEAK)
def test_a_copy_is_bound_by_main_memory(simulator, name):
    core = load_core(name)
    bandwidth = 64 * core.mhz / core.dram_line_cycles
    assert bandwidth / 2 <= copied_mb_a_second(simulator, core) <= bandwidth
