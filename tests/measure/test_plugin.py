"""The timing plugin in QEMU, with programs and cores so small that their cycles are worked out by hand.

Ports of the cores: I0, I1, V (vectors), M (memory). A measured region ends with `add x8, x8, #1` and `svc`; see
simulator_fixtures.py for what every instruction costs unless a test says otherwise.
"""

from __future__ import annotations

import functools

import machine_code as a64
import pytest
from machine_code import DATA, add, add_imm, b_ne, fmla, ldr, ldr_post, mov, mul, str_, str_post, subs_imm, system_call
from simulator_fixtures import (
    BEGIN,
    CLOCK,
    EMPTY,
    END,
    I0,
    I1,
    RELEASE,
    WARM_UP,
    M,
    Simulator,
    core,
    form,
    loop,
    mark,
    region,
)

from netadapt.errors import MeasurementError
from netadapt.measure.simulator.core import Cache, Prefetch

out_of_order = functools.partial(core, order="out-of-order", window=64)
THREE_LEVELS = (Cache(32 << 10, 4, 0), Cache(512 << 10, 8, 11), Cache(2 << 20, 16, 31))


@pytest.fixture
def simulator(installation, tmp_path):
    return Simulator(installation, tmp_path)


# ---- In-order cores


def test_a_dependent_instruction_waits_for_the_latency(simulator):
    assert simulator.cycles_each(core(), add(1, 1, 2)) == 1
    assert simulator.cycles_each(core(), mul(1, 1, 2)) == 3


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_in_order_core_issues_its_width_of_independent_instructions(simulator, width):
    # eor is given no port here, so that nothing but the width limits it: six take 6 / width cycles.
    free = core(width=width, more={"eor x x x": form(1)})
    assert simulator.cycles_each(free, lambda number: a64.eor(1 + number % 5, 6, 7), copies=6) * width == 1


def test_a_port_takes_one_instruction_a_cycle(simulator):
    # Two integer ports for adds, one of them for multiplications; width 3.
    wide = core(width=3)
    assert simulator.cycles_each(wide, lambda number: add(1 + number % 5, 6, 7)) == 1 / 2
    assert simulator.cycles_each(wide, lambda number: mul(1 + number % 5, 6, 7)) == 1
    # mul and add go together on I1 and I0.
    assert simulator.cycles_each(wide, lambda number: [mul(1 + number % 2, 6, 7), add(3 + number % 2, 6, 7)]) == 1


def test_a_port_stays_taken_for_its_cycles(simulator):
    # udiv holds I0 for ten cycles; results are not used.
    assert simulator.cycles_each(core(), a64.udiv(1, 2, 3)) == 10


def test_an_instruction_that_needs_two_ports_waits_for_both(simulator):
    both = core(more={"eor x x x": form(1, [I0, I1])})
    assert simulator.cycles_each(both, a64.eor(1, 2, 3)) == 1
    # The add takes a port of its own cycle, as eor needs both.
    assert simulator.cycles_each(both, [a64.eor(1, 2, 3), add(4, 5, 6)]) == 2


def test_the_addend_of_a_multiply_add_may_come_later(simulator):
    # Latency 8, the addend is read 4 cycles after the factors.
    assert simulator.cycles_each(core(), fmla(0, 1, 2)) == 4
    # As a factor, the result is needed at once.
    assert simulator.cycles_each(core(), fmla(0, 0, 2)) == 8


def test_a_load_that_hits_has_its_data_after_its_latency(simulator):
    points_to_itself = [mov(1, DATA), str_(1, 1)]
    assert simulator.cycles_each(core(), ldr(1, 1), points_to_itself) == 3


def test_the_register_written_back_is_ready_before_the_data(simulator):
    # Latency 20, but the next address is there a cycle later.
    slow = core(more={"ldr x [x] #": form(20, [M])})
    warm = [mov(1, DATA), mov(9, DATA), mark(WARM_UP), ldr(2, 1)]
    assert simulator.cycles_each(slow, ldr_post(2, 1, 0), warm) == 1
    # Not so when the data is made the next address: 20 and an add.
    assert simulator.cycles_each(slow, [ldr_post(2, 1, 0), add(1, 2, 9)], warm) == 21


def test_stores_stall_when_too_many_lines_wait_for_memory(simulator):
    # Every store misses and its line takes 10 cycles of the bus; 4 lines may wait, so the bus may be 40 cycles behind.
    # Stores issue in cycles 0, 1, 2, 3: the bus is booked until 40, which is no more than 3 + 40. Then come the add
    # (cycle 3) and svc (4, done at 5). A fifth store, in cycle 4, finds the bus booked until 50 and stalls until
    # 50 - 40 = 10; add and svc issue there. Each further store waits 10 cycles.
    def cycles(stores):
        return simulator.run(core(), mov(1, DATA), region(*[str_post(2, 1, 64)] * stores)).cycles

    assert [cycles(stores) for stores in (4, 5, 6, 9)] == [5, 11, 21, 51]


# ---- Branches


def random_branches(times):
    """Skips an instruction or not, by a bit of a random number (xorshift)."""
    shifts = [(a64.lsl_imm, 13), (a64.lsr_imm, 7), (a64.lsl_imm, 17)]
    step = [[shift(3, 2, by), a64.eor(2, 2, 3)] for shift, by in shifts]
    return [mov(2, 88172645463325252), loop(1, times, step, a64.tbz(2, 20, "skip"), add(4, 4, 4), "skip")]


def alternating_branches(times):
    return loop(1, times, a64.tbz(1, 0, "skip"), add(4, 4, 4), "skip")


def test_loops_and_patterns_are_learned_and_random_branches_are_not(simulator):
    plain = simulator.run(core(), region(loop(1, 1000, add(2, 2, 2))))
    assert plain.branches == 1000
    # The history of the last blocks, 32 bits, has to fill; and nothing tells that the last round is the last.
    assert 2 <= plain.mispredictions <= 15

    # Skipped every other time. A block of the add alone is there only because the label ends it: no branch.
    pattern = simulator.run(core(), region(alternating_branches(1000)))
    assert pattern.branches == 2000
    assert pattern.mispredictions <= 40

    # 1000 guesses of a coin: half are wrong, give or take a few; the loop itself has no pattern left to go by either,
    # as the way to it differs, but always goes back.
    random = simulator.run(core(), region(random_branches(1000)))
    assert 400 <= random.mispredictions <= 1100


def test_a_wrong_guess_costs_the_penalty(simulator):
    # Every result is there within the penalty, so it adds to the cycles as it is.
    program = region(random_branches(300))
    short, long = (simulator.run(core(branch_penalty=penalty), program) for penalty in (7, 17))
    assert short.mispredictions == long.mispredictions
    assert long.cycles - short.cycles == 10 * short.mispredictions


def test_an_out_of_order_core_finds_out_when_the_flags_are_there(simulator):
    # subs is dispatched at 0, issues at 1, its flags are there at 1 + latency. A first branch is guessed wrong: then, 7
    # cycles later, add and svc are dispatched, issue a cycle after that and are done another one later.
    for latency in (1, 30):
        simulated = out_of_order(more={"subs x x #": form(latency, [I0])})
        counts = simulator.run(simulated, region(subs_imm(1, 2, 0), b_ne("next"), "next"))
        assert (counts.branches, counts.mispredictions) == (1, 1)
        assert counts.cycles == 1 + latency + 7 + 2


# ---- Out-of-order cores


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_an_out_of_order_core_dispatches_its_width(simulator, width):
    free = out_of_order(width=width, more={"eor x x x": form(1)})
    assert simulator.cycles_each(free, a64.eor(1, 2, 3), copies=12) * width == 1


def test_micro_operations_are_dispatched_together_or_in_the_next_cycle(simulator):
    # Two of two micro-operations do not fit into a width of three, a two and a one do.
    double = out_of_order(width=3, more={"eor x x x": form(1, uops=2), "and x x x": form(1)})
    assert simulator.cycles_each(double, a64.eor(1, 2, 3), copies=12) == 1
    assert simulator.cycles_each(double, [a64.eor(1, 2, 3), a64.and_(4, 5, 6)], copies=12) == 1
    # More than the width take a cycle of their own.
    large = out_of_order(width=3, more={"eor x x x": form(1, uops=9)})
    assert simulator.cycles_each(large, a64.eor(1, 2, 3), copies=12) == 1


def test_the_window_limits_what_runs_ahead_of_a_miss(simulator):
    # The load is dispatched at 0, issues at 1 and has its data at 1 + 3 + 100 = 104. It and the 15 instructions after
    # it fill a window of 16; they are finished long before. They retire two a cycle from 104 on, and the instructions
    # from the 17th on take their places: the 17th and 18th at 104, the 19th at 105; done two cycles later.
    def cycles(adds, window):
        body = [ldr(1, 2), *(add(3 + number % 4, 9, 9) for number in range(adds))]
        return simulator.run(out_of_order(window=window), mov(2, DATA), region(*body)).cycles

    # Together with the load, and add and svc at the end: 16, 17, 18 and 19 instructions.
    assert [cycles(adds, 16) for adds in (13, 14, 15, 16)] == [104, 106, 106, 107]
    assert cycles(16, 32) == 104


def test_a_younger_instruction_uses_a_port_before_an_older_one_that_waits(simulator):
    # udiv issues at 1 (I0); the first mul waits for it and books I1 when its result is there. The chain of five muls
    # does not wait: it issues at 1, 4, 7, 10, 13 and is done at 16. (After the first mul it would be done at 29.)
    def cycles(latency):
        simulated = out_of_order(width=4, more={"udiv x x x": form(latency, [I0])})
        body = [a64.udiv(1, 2, 3), mul(4, 1, 1), *[mul(5, 5, 5)] * 5]
        return simulator.run(simulated, region(*body)).cycles

    assert cycles(10) == 16
    # Now the first mul holds I1 in cycle 10, and the chain is a cycle late from there on.
    assert cycles(9) == 17


def test_a_port_that_is_needed_for_two_slots_is_booked_twice(simulator):
    twice = out_of_order(width=4, more={"mul x x x": form(3, [(I1, 2)]), "eor x x x": form(1, [(I0 | I1, 3)])})
    assert simulator.cycles_each(twice, mul(1, 2, 3)) == 2
    # Three slots on two ports.
    assert simulator.cycles_each(twice, a64.eor(1, 2, 3)) == 3 / 2


# ---- Memory


def ring(lines, stride):
    """Fills DATA with a ring of pointers to each other, `stride` lines apart; x1 points to the first."""
    following = [add_imm(5, 1, 0), mov(6, stride * 64), add(4, 4, 6), a64.and_(4, 4, 7), add(1, 4, 9), str_(1, 5)]
    return [mov(7, lines * 64 - 1), mov(9, DATA), mov(4, 0), mov(1, DATA), loop(3, lines, following, label="ring")]


def chase(lines):
    return loop(3, lines // 8, *[ldr(1, 1)] * 8, label=f"chase{lines}")


def cycles_a_load(simulator, simulated, lines, stride):
    """In a ring that was gone through twice."""
    passes = [region(chase(times * lines)) for times in (2, 3)]
    few, many = (
        simulator.run(simulated, ring(lines, stride), mark(WARM_UP), one, data_bytes=lines * 64) for one in passes
    )
    return (many.cycles - few.cycles) / lines


@pytest.mark.parametrize("order", ["in-order", "out-of-order"])
def test_each_level_of_cache_has_its_latency(simulator, order):
    # Of an L1 hit 3; what another level costs more is in its line of the model.
    simulated = core(order, caches=THREE_LEVELS, window=64)
    assert cycles_a_load(simulator, simulated, (16 << 10) // 64, 97) == 3
    assert cycles_a_load(simulator, simulated, (256 << 10) // 64, 2531) == 3 + 11
    assert cycles_a_load(simulator, simulated, (1 << 20) // 64, 10125) == 3 + 31
    assert cycles_a_load(simulator, simulated, (4 << 20) // 64, 40503) == 3 + 100


def test_the_least_recently_used_line_is_replaced(simulator):
    # Two ways; the three lines lie in the same of four sets. A B A C A B: A, B and C miss; C replaces B, so A hits
    # twice and B misses again. (First in, first out would replace A, and miss five times.)
    simulated = core(caches=(Cache(512, 2, 0),))
    a, b, c = (ldr(1, 2, place * 256) for place in range(3))
    counts = simulator.run(simulated, mov(2, DATA), region(a, b, a, c, a, b))
    assert (counts.caches[0].hits, counts.caches[0].misses) == (2, 4)
    assert (counts.dram_lines_read, counts.dram_lines_written) == (4, 0)


def test_a_changed_line_is_written_back_once_when_it_is_replaced(simulator):
    a, b, c = (ldr(1, 2, place * 256) for place in range(3))
    store = str_(1, 2)
    one_level, two_levels = ((Cache(512, 2, 0),), (Cache(512, 2, 0), Cache(4096, 4, 9)))
    program = [mov(2, DATA), region(store, store, b, c, a, b, c)]
    assert simulator.run(core(caches=one_level), program).dram_lines_written == 1
    # L2 holds it, and takes it in.
    counts = simulator.run(core(caches=two_levels), program)
    assert (counts.dram_lines_read, counts.dram_lines_written) == (3, 0)


def test_main_memory_is_limited_by_latency_or_by_bandwidth(simulator):
    # Line after line of 1 MB. Each load needs the one before: 3 + 100 cycles.
    lines = (1 << 20) // 64

    def cycles(simulated, body):
        few, many = (simulator.run(simulated, body(lines // part), data_bytes=1 << 20).cycles for part in (2, 1))
        return (many - few) / (lines // 2)

    def dependent(count):
        return [ring(lines, 1), mov(1, DATA), region(chase(count))]

    def independent(count):
        return [mov(1, DATA), region(loop(3, count // 8, *[ldr_post(2, 1, 64)] * 8))]

    assert cycles(core(), dependent) == 103
    # Sixteen lines ahead, each has arrived before it is needed, and the bus is what limits: 10 cycles a line.
    assert cycles(core(prefetch=Prefetch(4, 2, 16)), dependent) == 10
    # Four lines ahead: five lines in 103 cycles, as a prefetched line starts the next when it is used.
    assert 100 / 5 <= cycles(core(prefetch=Prefetch(4, 2, 4)), dependent) <= 103 / 4
    # Loads that do not need each other overlap.
    assert cycles(core(), independent) == 10


def test_a_prefetcher_that_has_no_stream_fetches_nothing(simulator):
    touched = [ldr(1, 2, line * 64) for line in (0, 5, 10)]
    counts = simulator.run(core(prefetch=Prefetch(4, 1, 4)), mov(2, DATA), region(*touched))
    assert counts.dram_lines_read == 3
    # Confidence 1: the second of two neighbours starts it, and four more lines come.
    counts = simulator.run(core(prefetch=Prefetch(4, 1, 4)), mov(2, DATA), region(ldr(1, 2), ldr(1, 2, 64)))
    assert counts.dram_lines_read == 2 + 4


def test_an_access_across_two_lines_counts_as_two(simulator):
    def lines(instruction, offset):
        counts = simulator.run(core(), mov(2, DATA + offset), region(instruction(1, 2)))
        assert counts.unmodelled == {}
        return counts.caches[0].misses

    assert [lines(ldr, offset) for offset in (0, 56, 57, 63, 64)] == [1, 1, 2, 2, 1]
    assert [lines(a64.ldr_q, offset) for offset in (0, 48, 49, 52, 56, 60, 63)] == [1, 1, 2, 2, 2, 2, 2]
    assert [lines(str_, offset) for offset in (56, 60)] == [1, 2]


# ---- Marks


def test_caches_stay_between_regions_until_they_are_emptied(simulator):
    def misses(*between):
        return simulator.run(core(), mov(2, DATA), region(ldr(1, 2)), between, region(ldr(1, 2))).caches[0].misses

    assert misses() == 0
    assert misses(mark(EMPTY)) == 1
    # What was changed is dropped, not written.
    stored = simulator.run(core(), mov(2, DATA), region(str_(1, 2)), mark(EMPTY), region(ldr(1, 2)))
    assert (stored.dram_lines_read, stored.dram_lines_written) == (1, 0)


def test_the_report_is_of_the_last_region_alone(simulator):
    counts = simulator.run(core(), region(*[mul(1, 1, 2)] * 100), add(1, 1, 2), region(*[add(1, 1, 2)] * 5))
    # Five adds, and what ends a region.
    assert counts.instructions == 7
    assert counts.mix["integer"] == 7
    # The chain issues at 0 to 4, add x8 with its last, svc a cycle later; done at 6.
    assert counts.cycles == 6


def test_a_warm_up_counts_nothing_but_fills_caches(simulator):
    simulator.start(core(), mov(2, DATA), mark(WARM_UP), ldr(1, 2), mark(END))
    assert not simulator.report.exists()
    counts = simulator.run(core(), mov(2, DATA), mark(WARM_UP), ldr(1, 2), region(ldr(1, 2)))
    assert (counts.instructions, counts.caches[0].hits, counts.caches[0].misses) == (3, 1, 0)


def test_nothing_is_counted_after_a_release_until_the_next_region(simulator):
    counts = simulator.run(
        core(), region(*[add(1, 1, 2)] * 9), mark(RELEASE), *[add(1, 1, 2)] * 50, region(add(1, 1, 2))
    )
    assert counts.instructions == 3


def test_the_clock_shows_a_cycle_as_a_microsecond(simulator):
    # clock_gettime(CLOCK_MONOTONIC, &time) before and after a chain of multiplications.
    def program(count):
        read = [system_call(113, 1, DATA + 16 * place) for place in range(2)]
        body = [read[0], *[mul(1, 1, 2)] * count, read[1]]
        return [mark(WARM_UP), mark(CLOCK), *body, system_call(64, 1, DATA, 32)]

    def nanoseconds(count):
        times = [
            int.from_bytes(output[at : at + 8], "little")
            for output in [simulator.start(core(), program(count))]
            for at in range(0, 32, 8)
        ]
        return (times[2] - times[0]) * 10**9 + times[3] - times[1]

    short, long = nanoseconds(10), nanoseconds(110)
    assert short >= 10 * 3 * 1000
    # 3 cycles each.
    assert long - short == 100 * 3 * 1000


def test_seconds_of_the_clock_are_carried(simulator):
    # 400,000 multiplications: 1.2 million cycles are shown as 1.2 s and a little.
    read = [system_call(113, 1, DATA + 16 * place) for place in range(2)]
    body = [read[0], mov(2, 1), loop(3, 4000, *[mul(1, 1, 2)] * 100), read[1]]
    output = simulator.start(core(), mark(WARM_UP), mark(CLOCK), *body, system_call(64, 1, DATA + 16, 16))
    seconds, nanoseconds = (int.from_bytes(output[at : at + 8], "little") for at in (0, 8))
    assert seconds == 1
    assert 200_000_000 <= nanoseconds < 210_000_000


def test_what_the_table_lacks_is_told_with_its_count(simulator):
    counts = simulator.run(core(), region(mov(2, 1), loop(1, 7, a64.fdiv(1, 2, 3), a64.sub(4, 5, 6))))
    assert counts.unmodelled == {"fdiv v.4s v.4s v.4s": 7, "sub x x x": 7}
    assert counts.unmodelled_share == 14 / counts.instructions
    # It is taken to cost a cycle, and no port.
    assert simulator.run(core(), region(*[a64.sub(4, 4, 6)] * 20)).cycles == 21


def test_events_are_counted(simulator):
    body = [a64.ldp_q(0, 1, 2), a64.stp_q(0, 1, 2, 64), a64.ldr_q(3, 2), ldr(5, 2), fmla(0, 1, 2), a64.fmul(3, 4, 5)]
    pair = {"ldp q q [x #]": form(3, [M]), "stp q q [x #]": form(1, [M])}
    counts = simulator.run(core(more=pair), mov(2, DATA), region(*body))
    assert (counts.bytes_loaded, counts.bytes_stored) == (32 + 16 + 8, 32)
    assert (counts.fma_lanes, counts.fp_lanes) == (4, 4)
    # add and svc end the region.
    assert counts.mix == {
        "integer": 2, "load": 3, "store": 1, "branch": 0, "fp_fma": 1, "fp_other": 1, "simd": 0
    }  # fmt: skip


def test_a_region_on_two_threads_is_refused(simulator):
    # clone with the flags that threads have; the child counts to ten and ends, the parent waits for a word of its.
    flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
    child = ["child", mov(2, DATA), add(1, 1, 1), mov(3, 1), str_(3, 2), system_call(93, 0)]
    start = [system_call(220, flags, DATA + 0x4000, 0, 0, 0), a64.cbz(0, "child")]
    wait = [mov(2, DATA), "wait", ldr(3, 2), a64.cbz(3, "wait")]
    program = [mark(BEGIN), start, wait, mark(END), a64.b("end"), child, "end"]
    with pytest.raises(MeasurementError, match="several threads"):
        simulator.run(core(), program)


# ---- Arguments


@pytest.fixture
def arguments(simulator, installation):
    """Good arguments of the plugin, for a program that is there."""
    simulator.start(core())
    return {"model": "core.model", "capstone": installation.capstone_library, "report": "report.json"}


def message(simulator, arguments):
    done = simulator.qemu(arguments)
    assert done.returncode != 0
    return done.stderr.decode()


@pytest.mark.parametrize("name", ["model", "capstone", "report"])
def test_every_argument_is_needed(simulator, arguments, name):
    del arguments[name]
    assert "netadapt: arguments model=, capstone= and report= are needed" in message(simulator, arguments)


def test_a_model_that_is_not_there_is_told(simulator, arguments):
    assert "netadapt: nowhere.model: cannot be opened" in message(simulator, arguments | {"model": "nowhere.model"})


@pytest.mark.parametrize(
    ("line", "changed", "number"),
    [
        ("netadapt-core 1", "netadapt-core 2", 1),
        ("order in-order", "order sideways", 2),
        ("width 2", "width two", 3),
        ("width 2", "girth 2", 3),
        ("cache 32768 4 0", "cache 32768", 8),
    ],
)
def test_a_line_that_does_not_belong_into_a_model_is_told(simulator, arguments, line, changed, number):
    model = simulator.folder / "core.model"
    lines = model.read_text().splitlines()
    assert lines[number - 1] == line
    model.write_text("\n".join([*lines[: number - 1], changed, *lines[number:]]) + "\n")
    assert f"netadapt: core.model: line {number} is not of the format" in message(simulator, arguments)


def test_a_model_that_lacks_lines_is_told(simulator, arguments):
    (simulator.folder / "core.model").write_text("netadapt-core 1\norder in-order\n")
    assert "or lines are missing" in message(simulator, arguments)


def test_a_missing_capstone_is_told(simulator, arguments):
    said = message(simulator, arguments | {"capstone": "nowhere/libcapstone.so"})
    assert "netadapt: cannot load Capstone" in said
    assert "nowhere/libcapstone.so" in said
    said = message(simulator, arguments | {"capstone": simulator.installation.plugin})
    assert "is not Capstone's library" in said
