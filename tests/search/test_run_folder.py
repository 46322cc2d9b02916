import json
import os
import signal
from pathlib import Path

import pytest

from netadapt.errors import RunError
from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.search.run import RunFolder

CONFIG = {"network": "net", "seed": 0, "workers": 2}
PROPOSAL = Proposal(0, "layer.1", {"layer.0": 8, "layer.1": 4}, {"macs": 10.0})

LOOK = Look(3)


def open_run(path: Path, resume: bool = False, **changes: object) -> RunFolder:
    return RunFolder.open(path, {**CONFIG, **changes}, resume)


def accept(folder: RunFolder, iteration: int) -> None:
    folder.record(
        "accepted", iteration=iteration, group="a", widths={"a": 9 - iteration}, resources={}, score=0.5, loss=1.0
    )


def test_a_second_run_in_the_folder_needs_resume(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        accept(folder, 1)
    with pytest.raises(RunError, match="continue it with --resume"):
        open_run(tmp_path)
    open_run(tmp_path, resume=True).close()


def test_a_run_that_ended_before_anything_happened_leaves_the_folder_free(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    open_run(tmp_path, seed=1).close()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_resume_begins_a_run_that_was_killed_before_it_began(tmp_path: Path) -> None:
    with open_run(tmp_path / "new", resume=True) as folder:
        assert folder.events == []


def test_what_was_asked_for_must_not_change_but_the_workers_may(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        accept(folder, 1)
    open_run(tmp_path, resume=True, workers=1).close()
    with pytest.raises(RunError, match=r"seed \(was 0, now 1\)"):
        open_run(tmp_path, resume=True, seed=1)


def test_two_processes_cannot_use_a_folder_at_once(tmp_path: Path) -> None:
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open_run(tmp_path):
                os.write(go, b"1")
                signal.pause()
        finally:
            os._exit(1)
    os.read(ready, 1)
    try:
        with pytest.raises(RunError, match="in use"):
            open_run(tmp_path, resume=True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    open_run(tmp_path, resume=True).close()


def test_a_line_that_a_kill_cut_short_never_happened(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        accept(folder, 1)
        accept(folder, 2)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for end in (first, first + 1, len(whole) - 1):
        journal.write_bytes(whole[:end])
        with open_run(tmp_path, resume=True) as folder:
            assert [state.iteration for state in folder.accepted()] == [1]
            accept(folder, 2)
        assert journal.read_bytes() == whole


def test_a_damaged_journal_names_the_line(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        accept(folder, 1)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b"nonsense\n")
    with pytest.raises(RunError, match=r"journal.jsonl, line 2"):
        open_run(tmp_path, resume=True)
    # The failed attempt does not keep the folder locked.
    journal.write_bytes(b"")
    open_run(tmp_path, resume=True).close()


def test_the_search_stands_at_the_last_accepted_network(tmp_path: Path) -> None:
    original = State(0, {"a": 9}, {}, 0.6, 1.0, tmp_path / "original")
    with open_run(tmp_path) as folder:
        assert folder.state(original) is original
        accept(folder, 1)
        accept(folder, 2)
        assert folder.state(original) == State(2, {"a": 7}, {}, 0.5, 1.0, folder.weights(2))


def test_a_proposal_is_kept_while_its_weights_are_there_and_it_was_not_dropped(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        target = folder.proposal_weights(PROPOSAL, LOOK)
        made = Outcome(PROPOSAL, LOOK, 0.5, 1.0, 2.0, target)
        assert folder.outcome(PROPOSAL, LOOK) is None
        folder.record("proposal", outcome=made.to_json())
        assert folder.outcome(PROPOSAL, LOOK) is None
        target.parent.mkdir()
        target.touch()
        assert folder.outcome(PROPOSAL, LOOK) == made
        other = Proposal(0, "layer.1", {"layer.0": 8, "layer.1": 2}, {"macs": 5.0})
        assert folder.outcome(other, LOOK) is None
        folder.record("proposal", outcome=Outcome(PROPOSAL, LOOK, 0.0, 0.0, 2.0, target, dropped="NaN").to_json())
        assert folder.outcome(PROPOSAL, LOOK) is None


def test_a_moved_run_finds_its_weights(tmp_path: Path) -> None:
    with open_run(tmp_path / "old") as folder:
        target = folder.proposal_weights(PROPOSAL, LOOK)
        target.parent.mkdir()
        target.touch()
        folder.record("proposal", outcome=Outcome(PROPOSAL, LOOK, 0.5, 1.0, 2.0, target).to_json())
    (tmp_path / "old").rename(tmp_path / "new")
    with open_run(tmp_path / "new", resume=True) as folder:
        outcome = folder.outcome(PROPOSAL, LOOK)
        assert outcome is not None
        assert outcome.weights.parent == tmp_path / "new" / "proposals"


def test_the_summary_is_there_wholly_or_not_at_all(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        folder.write_summary({"iterations": 3})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"iterations": 3}
    assert not list(tmp_path.glob(".summary*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        (tmp_path / "journal.jsonl").symlink_to("/dev/full")
        with pytest.raises(RunError, match="No space left"):
            accept(folder, 1)
        assert folder.events == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        open_run(tmp_path / "file" / "run")


def test_the_weights_of_the_best_proposal_become_those_of_its_iteration(tmp_path: Path) -> None:
    with open_run(tmp_path) as folder:
        target = folder.proposal_weights(PROPOSAL, LOOK)
        target.parent.mkdir()
        target.write_text("weights")
        outcome = Outcome(PROPOSAL, LOOK, 0.5, 1.0, 2.0, target)
        assert folder.keep_weights(outcome, 1).read_text() == "weights"
        assert not target.exists()
        with pytest.raises(RunError, match="resume when it can"):
            folder.keep_weights(outcome, 2)
