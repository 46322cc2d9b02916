import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from netadapt.progress.bar import bar
from netadapt.progress.lines import Lines
from netadapt.progress.live import LiveProgress
from netadapt.progress.status import Status
from netadapt.progress.time_left import TimeLeft, readable
from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal

STATE = State(0, {"a": 8, "b": 8}, {"macs": 100.0}, 0.5, 1.0, Path("weights"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A log that is looked at every 5 s, as by `live_progress`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written: list[tuple[float, str]] = []
        time_left = TimeLeft(self.clock)
        self.lines = Lines(lambda text: self.written.append((self.clock() - 1000, text)), time_left, self.clock)
        self.progress = LiveProgress(self.lines, time_left)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            self.clock.now += 5
            self.lines.tick()


def outcome(group: str, score: float, dropped: str = "") -> Outcome:
    return Outcome(Proposal(0, group, {"a": 8, "b": 8}, {"macs": 90.0}), Look(1), score, 1.0, 1.0, Path(group), dropped)


def test_work_that_reports_nothing_is_heard_of_every_half_minute() -> None:
    log = Log()
    log.progress.stage("evaluating the original network")
    log.wait(60)
    assert log.written == [
        (0, "evaluating the original network"),
        (20, "evaluating the original network, 20 s so far"),
        (40, "evaluating the original network, 40 s so far"),
        (60, "evaluating the original network, 60 s so far"),
    ]


def test_counted_work_says_how_much_is_done_and_left() -> None:
    log = Log()
    log.progress.stage("measuring layers")
    for done in range(1, 13):
        log.wait(5)
        log.progress.measured(done, 120)
    assert log.written == [
        (0, "measuring layers"),
        # 20 s for 3 is 780 s for 117 more.
        (20, "measuring layers: 3 of 120, about 13 min left"),
        (40, "measuring layers: 7 of 120, about 11 min left"),
        (60, "measuring layers: 11 of 120, about 10 min left"),
    ]


def test_a_busy_machine_is_told_of_once_and_dropped_proposals_always() -> None:
    log = Log()
    for share in (40, 50):
        log.progress.busy(f"the machine is busy, {share} %")
        log.progress.proposal(outcome("d", 0.0, dropped="NaN"), 1, 1)
    texts = [text for _, text in log.written if text.startswith("note")]
    assert texts == [
        "note: the machine is busy, 40 %",
        "note: proposal d dropped: NaN",
        "note: proposal d dropped: NaN",
    ]


def test_waiting_for_another_process_does_not_fill_the_log() -> None:
    log = Log()
    log.progress.stage("calibrating")
    for seconds in range(0, 60, 5):
        log.progress.waiting(f"process 7 (lut build), {seconds} s")
        log.wait(5)
    assert [text for _, text in log.written] == [
        "calibrating",
        "calibrating, waiting for process 7 (lut build), 0 s",
        "calibrating, waiting for process 7 (lut build), 15 s, 20 s so far",
        "calibrating, waiting for process 7 (lut build), 35 s, 40 s so far",
        "calibrating, waiting for process 7 (lut build), 55 s, 60 s so far",
    ]


def test_later_stages_count_into_the_time_left() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.expect({"fine-tune": None, "testing": None})
    left.begin("search")
    left.advance(0, 10)
    assert str(left) == "0 s so far"
    clock.now += 10
    left.advance(1, 10)
    assert str(left) == "at least 2 min left"
    left.expect({"fine-tune": 300.0, "testing": 60.0})
    assert left.seconds == 90 + 300 + 60
    assert str(left) == "about 8 min left"
    left.begin("fine-tune")
    clock.now += 100
    assert left.seconds == 200 + 60  # nothing counted yet: as expected
    left.advance(1, 2)
    assert left.seconds == 100 + 60


def test_a_resumed_search_is_judged_by_what_it_does_now() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.begin("search")
    clock.now += 1
    left.advance(15, 20)
    clock.now += 60
    left.advance(16, 20)
    assert left.seconds == 4 * 60


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5300, "88 min"), (12000, "3 h 20 min")]
)
def test_durations_are_readable(seconds: float, said: str) -> None:
    assert readable(seconds) == said


def test_a_search_has_one_count_whatever_is_measured_meanwhile() -> None:
    log = Log()
    proposals = [outcome(group, 0.0).proposal for group in "ab"]
    log.progress.iteration(STATE, {"macs": 90.0}, proposals, iterations=4)
    log.wait(5)
    log.progress.proposal(outcome("a", 0.5), 1, 2)
    log.wait(15)
    log.progress.measured(3, 7)
    # An eighth of four iterations took 5 s, but 20 s have gone by.
    assert log.written[-1] == (20, "iteration 1 of 4, proposal 1 of 2, best 50.00% with a: 1 of 8, about 2 min left")
    log.wait(20)
    assert log.written[-1] == (40, "iteration 1 of 4, measuring 3 of 7: 1 of 8, about 5 min left")


def test_the_best_proposal_is_the_one_of_highest_score() -> None:
    shown: list[str] = []

    class Shown:
        def show(self, status: Status) -> None:
            shown.append(status.text.partition("best ")[2])

        def say(self, text: str) -> None: ...

        def clear(self) -> None: ...

    progress = LiveProgress(Shown(), TimeLeft())
    progress.iteration(STATE, {"macs": 90.0}, [outcome(group, 0.0).proposal for group in "abcd"], iterations=2)
    # As texts, 9 % would come after 94 %, and 94 % after 100 %.
    for done, made in enumerate(
        [outcome("d", 0.0, dropped="NaN"), outcome("a", 0.09), outcome("b", 0.94), outcome("c", 1.0)], start=1
    ):
        progress.proposal(made, done, 4)
    assert shown == ["", "none yet", "9.00% with a", "94.00% with b", "100.00% with c"]


def test_a_terminal_shows_a_bar_with_the_time_left_of_all() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    console = Console(file=io.StringIO(), width=200, force_terminal=True, highlight=False)
    with bar(console, left) as display:
        progress = LiveProgress(display, left)
        progress.expect({"later": 600.0})
        progress.stage("measuring layers")
        clock.now += 60
        progress.measured(1, 6)
        progress.note("[a] remark")
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "note: [a] remark" in written
    assert "1/6" in written
    assert "about 15 min left" in written


def test_a_log_gets_lines_from_live_progress() -> None:
    code = """
import time
import netadapt.progress as progress
from netadapt.progress import lines
progress._TICK_S, lines.PERIOD_S = 0.01, 0.02
with progress.live_progress() as shown:
    shown.stage("working")
    time.sleep(0.2)
"""
    written = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    first, second, *_ = written.splitlines()
    assert (first, second) == ("working", "working, 0 s so far")


def test_processes_that_take_turns_do_not_fill_the_log() -> None:
    log = Log()
    log.progress.stage("measuring layers")
    for _ in range(8):
        log.progress.waiting("process 7 (netadapt), which began 1 s ago")
        log.wait(5)
        log.progress.measured(1, 10)
    assert [text.split(" (")[0] for _, text in log.written[:2]] == [
        "measuring layers",
        "measuring layers, waiting for process 7",
    ]
    assert len(log.written) <= 7
    assert log.written[-1][0] >= 40 - 20
