"""Remembering what blocks of instructions do to a core (replay.c) changes no count.

Neither of loops such as runtimes have, nor of random programs on random cores.
"""

from __future__ import annotations

import machine_code as a64
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from machine_code import DATA, add, and_, eor, fadd, fmla, lsl_imm, lsr_imm, mov, mul, tbz
from simulator_fixtures import FORMS, Simulator, core, form, loop, region

from netadapt.measure.simulator.core import Cache, Prefetch
from netadapt.measure.simulator.core_file import load_core

EXAMPLES = 40
BUNDLED = ["cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76"]
MASK, SEED = 0x3FF8, 88172645463325252


@pytest.fixture
def simulator(installation, tmp_path):
    return Simulator(installation, tmp_path)


def same(simulator, simulated, *program, **options):
    remembered = simulator.run(simulated, *program, replay=True, **options)
    computed = simulator.run(simulated, *program, replay=False, **options)
    assert remembered == computed
    return computed


def gemm():
    """Sixteen accumulators in v16-v31, a k step of four loads."""
    step = [
        *(a64.ldr_q_post(place, 1 if place < 2 else 2, 16) for place in range(4)),
        *(a64.fmla_element(16 + place, place // 8, 2 + place % 8 // 4, place % 4) for place in range(16)),
    ]
    panels = [mov(1, DATA), mov(2, DATA + (1 << 15)), loop(4, 256, step, label="step")]
    return loop(3, 6, panels, label="panel")


def copy():
    pairs = [[a64.ldp_q(0, 1, 1, 32 * place), a64.stp_q(0, 1, 2, 32 * place)] for place in range(2)]
    step = [*pairs, a64.add_imm(1, 1, 64), a64.add_imm(2, 2, 64)]
    return [mov(1, DATA), mov(2, DATA + (1 << 20)), loop(3, 8000, step)]


def chase():
    """Through 256 KB, a little more than 4 KB further each time, each address depending on what was loaded."""
    return [mov(1, DATA), loop(3, 9000, a64.ldr(4, 1), and_(4, 4, 31), add(1, 1, 4), _further(1))]


def _further(register):
    """`register` = DATA + (register - DATA + 4160) % 256 KB."""
    return [
        a64.add_imm(register, register, 4032),
        a64.add_imm(register, register, 128),
        mov(5, 0x103FFFF),
        and_(1, 1, 5),
    ]


def branches():
    """A random walk: which of two ways is taken depends on bits of a random number."""
    ways = [tbz(1, 7, "zero"), mul(2, 2, 1), a64.ldr_index(3, 10, 4), "zero", tbz(1, 11, "out"), fadd(0, 0, 1), "out"]
    return [mov(1, SEED), mov(10, DATA), mov(11, MASK), loop(5, 4000, random_number(1, 6), and_(4, 1, 11), ways)]


def random_number(register, scratch):
    """Marsaglia's xorshift."""
    shifts = [(lsl_imm, 13), (lsr_imm, 7), (lsl_imm, 17)]
    return [[shift(scratch, register, by), eor(register, register, scratch)] for shift, by in shifts]


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("body", [gemm, copy, chase, branches])
def test_loops_of_every_kind_count_the_same(simulator, name, body):
    counts = same(simulator, load_core(name), *region(*body()), data_bytes=2 << 20)
    assert counts.unmodelled == {}
    assert counts.instructions > 20_000


# ---- Random programs on random cores

PORTS = st.integers(1, 15)


@st.composite
def random_form(draw, text):
    latency = draw(st.integers(1, 30))
    uses = draw(st.lists(st.tuples(PORTS, st.integers(1, 4)), max_size=2))
    advance = draw(st.integers(0, latency)) if text.startswith("fmla") else 0
    return form(latency, uses, uops=draw(st.integers(1, 3)), advance=advance)


CORES = st.builds(
    core,
    order=st.sampled_from(["in-order", "out-of-order"]),
    width=st.integers(1, 4),
    window=st.integers(1, 40),
    forms=st.fixed_dictionaries({text: random_form(text) for text in FORMS}),
    caches=st.sampled_from([(Cache(1 << 10, 2, 0),), (Cache(1 << 10, 2, 0), Cache(1 << 12, 4, 9))]),
    dram=st.tuples(st.integers(1, 300), st.integers(1, 40)),
    prefetch=st.builds(Prefetch, st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)),
    branch_penalty=st.integers(0, 20),
    store_buffer_lines=st.integers(1, 4),
)

#: x1 to x5 and v0 to v5 are anything; x9 is an offset, x10 the data, x11 the mask of offsets, x12 a random number, x13
#: a pointer that goes along the data; x14 and x16 count.
NUMBERS = st.integers(1, 5)
ARITHMETIC = st.builds(
    lambda make, *registers: make(*registers),
    st.sampled_from([add, and_, eor, mul, fadd, a64.fmul, fmla, a64.udiv, fmla, fmla]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
MOVES = [a64.ldr_index, a64.str_index, a64.ldr_q_index, a64.str_q_index]
ACCESSES = st.builds(lambda make, register: make(register, 10, 9), st.sampled_from(MOVES), NUMBERS)
STEPPING = [a64.ldr_post, a64.str_post, a64.ldr_q_post, a64.str_q_post]
STEPS = st.builds(
    lambda make, register, step: make(register, 13, step),
    st.sampled_from(STEPPING),
    NUMBERS,
    st.sampled_from([0, 8, 16, 24, 64, 128, 192]),
)
STRIDES = st.builds(lambda step: [a64.add_imm(9, 9, 8 * step), and_(9, 9, 11)], st.integers(1, 400))
#: A load whose address depends on a loaded value.
GATHERS = st.builds(lambda register: [add(9, 9, register), and_(9, 9, 11), a64.ldr_index(register, 10, 9)], NUMBERS)
STRAIGHT = st.lists(st.one_of(ARITHMETIC, ARITHMETIC, ACCESSES, STEPS, STRIDES, GATHERS), min_size=1, max_size=12)
#: Instructions that are left out, or not, by a random bit.
MAYBE = st.tuples(st.integers(0, 63), STRAIGHT)
BODIES = st.tuples(st.integers(1, 60), STRAIGHT, st.lists(MAYBE, max_size=2))


def random_program(bodies, rounds):
    loops = [_body(number, *body) for number, body in enumerate(bodies)]
    setting = [[mov(register, register) for register in range(1, 6)], mov(9, 0), mov(10, DATA), mov(11, MASK)]
    return [*setting, mov(12, SEED), loop(16, rounds, *loops, label="rounds")]


def _body(number, times, straight, maybe):
    body = [straight]
    for place, (bit, instructions) in enumerate(maybe):
        label = f"skip{number}.{place}"
        body += [random_number(12, 7), tbz(12, bit, label), instructions, label]
    return [mov(13, DATA + 4096), loop(14, times, *body, label=f"loop{number}")]


@given(simulated=CORES, bodies=st.lists(BODIES, min_size=1, max_size=3), rounds=st.integers(1, 12))
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Making a failing program smaller takes minutes.
    phases=[Phase.explicit, Phase.generate],
)
def test_random_programs_on_random_cores_count_the_same(installation, tmp_path_factory, simulated, bodies, rounds):
    simulator = Simulator(installation, tmp_path_factory.getbasetemp())
    counts = same(simulator, simulated, *region(random_program(bodies, rounds)), data_bytes=1 << 19)
    assert counts.unmodelled == {}
