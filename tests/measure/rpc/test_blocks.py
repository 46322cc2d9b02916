"""Blocks of a board: which count, how they are taken, and when the board is not fit; with a board that is made up."""

from __future__ import annotations

import json

import pytest

from netadapt.errors import ClockZero, Throttled
from netadapt.measure.protocol import Block, Timing, collect
from netadapt.measure.rpc.blocks import BlockTime, BlockTimes, RemoteSource, State

TIMING = Timing(time_limit_ns=200_000_000)
HOT = State(celsius=90)


class Program:
    """A program whose runs take 10 us each; remembers what it was asked."""

    def __init__(self, states=(), block=lambda ns: BlockTime(ns, ns, 0)):
        self.states = list(states)
        self.block = block
        self.asked = []

    def blocks(self, runs, count):
        self.asked.append((runs, count))
        state = self.states.pop(0) if self.states else State()
        return BlockTimes(tuple(self.block(runs * 10_000) for _ in range(count)), state)


def source(program, sleep=lambda s: None, **options):
    return RemoteSource(program, TIMING, most_celsius=80, cooling_limit_s=2, sleep=sleep, **options)


def test_warming_up_finds_blocks_of_a_millisecond():
    program = Program()
    warm = source(program)
    warm.warm_up()
    assert warm.block() == Block(10_000, wall_ns=1_000_000)
    assert program.asked[-1] == (100, 1)
    assert program.asked[:7] == [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1)]


def test_a_batch_is_one_question():
    program = Program()
    warm = source(program, batch=10)
    sample = collect(warm, TIMING)
    assert sample.first_quartile == 10_000
    assert set(program.asked) == {(1, 10)}
    assert sample.samples == 10 * len(program.asked)


@pytest.mark.parametrize(
    ("time", "clean"),
    [
        (BlockTime(1000, 1000, 0), True),
        (BlockTime(1000, 970, 0), True),
        (BlockTime(1000, 969, 0), False),
        (BlockTime(1000, 1000, 1), False),
        # A server that does not count.
        (BlockTime(1000), True),
    ],
)
def test_which_blocks_are_clean(time, clean):
    assert source(Program(block=lambda ns: time)).block().clean is clean


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (State(), None),
        (State(celsius=80), None),
        (State(celsius=80.6), "it is 81 °C hot (at most 80 are allowed)"),
        (State(mhz=1350, max_mhz=1500), None),
        (State(mhz=1349, max_mhz=1500), "its cores run at 1349 MHz of 1500"),
        (State(mhz=600), None),
    ],
)
def test_which_states_can_be_measured(state, fault):
    assert state.fault(80) == fault


def test_a_hot_board_is_waited_for_and_what_it_timed_is_dropped():
    waited = []
    program = Program([HOT, HOT, State(celsius=70)])
    block = source(program, waited.append).block()
    assert block == Block(10_000, True, waited_ns=1_000_000_000, wall_ns=10_000)
    assert waited == [0.5, 0.5]
    assert len(program.asked) == 3


def test_a_board_that_stays_hot_is_throttled():
    waited = []
    with pytest.raises(Throttled, match="stayed so for 2 s: it is 90 °C hot"):
        source(Program([HOT] * 100), waited.append).block()
    assert sum(waited) == 2


def test_a_clock_that_stands_still_is_not_believed():
    with pytest.raises(ClockZero):
        source(Program(block=lambda ns: BlockTime(0, 0, 0))).warm_up()


def test_reading_what_the_device_server_answers():
    state = {"celsius": 41.5, "mhz": None, "max_mhz": None}
    text = json.dumps({"blocks": [[1000, 990, 0], [1100, 700, 2]], "state": state})
    times = BlockTimes.from_answer(text, 2)
    assert times == BlockTimes((BlockTime(1000, 990, 0), BlockTime(1100, 700, 2)), State(celsius=41.5))
