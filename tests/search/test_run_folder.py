import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from netadapt.errors import RunError
from netadapt.search.changed_options import changed_options
from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.search.run import RunFolder
from netadapt.search.strategy import FAST, PAPER

TRAINING = {"steps": 3, "options": {"lr": 0.05, "batch_size": 32}}
CONFIG = {
    "network": "net",
    "data": "sides",
    "platform": "ort-local",
    "fingerprint": "0123456789abcdef",
    "weights": "fedcba9876543210",
    "budgets": ["macs=0.5x"],
    "selection": "accuracy",
    "strategy": asdict(PAPER),
    "pace": {"iterations": 3, "decay": 0.96, "initial_reduction": None},
    "short_term": TRAINING,
    "long_term": TRAINING,
    "device": "cpu",
    "correction": True,
    "seed": 0,
    "workers": 2,
}
PROPOSAL = Proposal(0, "layer.1", {"layer.0": 8, "layer.1": 4}, {"macs": 10.0})

LOOK = Look(3)


def open_run(path: Path, resume: bool = False, **changes: object) -> RunFolder:
    return RunFolder.open(path, {**CONFIG, **changes}, resume)


def start(folder: RunFolder) -> None:
    """Record what a run begins with: an original network of width 9 in its only group."""
    put(folder.weights(0))
    folder.record("started", resources={"macs": 90.0}, score=0.6, loss=1.0, seconds=0.1, corrections={})


def accept(folder: RunFolder, iteration: int) -> None:
    """Record a proposal and make it the network of an iteration."""
    proposal = Proposal(iteration - 1, "a", {"a": 9 - iteration}, {"macs": 90.0 - 10 * iteration})
    made = Outcome(proposal, LOOK, 0.5, 1.0, 2.0, folder.proposal_weights(proposal, LOOK))
    put(made.weights)
    folder.record("proposal", outcome=made.to_json())
    folder.keep_weights(made, iteration)
    folder.record(
        "accepted",
        iteration=iteration,
        group=proposal.group,
        widths=proposal.widths,
        resources=proposal.resources,
        score=made.score,
        loss=made.loss,
        wall_seconds=0.1,
    )
    folder.clear_proposals()


def put(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def run_of(path: Path, iterations: int) -> list[str]:
    """Make a run of so many iterations, and give the lines of its journal."""
    with open_run(path) as folder:
        start(folder)
        for iteration in range(1, iterations + 1):
            accept(folder, iteration)
    return (path / "journal.jsonl").read_text().splitlines(keepends=True)


def test_a_second_run_in_the_folder_needs_resume(tmp_path: Path) -> None:
    run_of(tmp_path, 1)
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
    run_of(tmp_path, 1)
    open_run(tmp_path, resume=True, workers=1).close()
    training = {"steps": 3, "options": {"lr": 0.05, "batch_size": 64}}
    changes: dict[str, object] = {
        "budgets": ["macs=0.4x", "params=0.5x"],
        "strategy": asdict(FAST),
        "pace": {"iterations": 6, "decay": 0.96, "initial_reduction": 0.1},
        "short_term": training,
        "long_term": training | {"steps": 5},
        "correction": False,
        "weights": "0000000000000000",
    }
    with pytest.raises(RunError) as raised:
        open_run(tmp_path, resume=True, **changes)
    assert str(raised.value) == (
        f"{tmp_path} is a run with other options: the network's weights are others than before; "
        "--budget was macs=0.5x, now macs=0.4x params=0.5x; --strategy was paper, now fast; --iterations was 3, now 6; "
        "--initial-reduction was not given, now 0.1; --batch was 32, now 64; --long-steps was 3, now 5; "
        "--no-correction was not given, now it is given. "
        "Resume it with those that it began with, or choose another folder"
    )


@pytest.mark.parametrize("name", ["config.json", "journal.jsonl", "summary.json", "notes.txt", "weights/mine.txt"])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    (tmp_path / "proposals").mkdir()
    for resume in (False, True):
        with pytest.raises(RunError, match=r"holds no run of netadapt|not the configuration of a run"):
            open_run(tmp_path, resume=resume)
    assert path.read_text() == '{"mine": 1}'
    assert not (tmp_path / ".lock").exists()
    assert (tmp_path / "proposals").is_dir()


def test_a_configuration_of_another_program_is_no_damaged_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("not even JSON")
    with pytest.raises(RunError, match=r"config.json there is not the configuration of a run; choose a new"):
        open_run(tmp_path)


def test_a_change_of_mirroring_is_named_by_its_option_and_once() -> None:
    kept, changed = (
        {part: {"options": {"augmentation": {"flip": flip}}} for part in ("short_term", "long_term")}
        for flip in (True, False)
    )
    assert changed_options(kept, changed) == ["--no-flip was not given, now it is given"]


def test_a_fault_of_a_whole_document_begins_with_the_fault(tmp_path: Path) -> None:
    run_of(tmp_path, 1)
    (tmp_path / "config.json").write_text("1")
    with pytest.raises(RunError, match=r"not the configuration of a run \(Input should be"):
        open_run(tmp_path, resume=True)


def test_an_empty_journal_beside_accepted_networks_is_damage_not_a_new_run(tmp_path: Path) -> None:
    run_of(tmp_path, 1)
    journal = tmp_path / "journal.jsonl"
    for damage in (lambda: journal.write_bytes(b""), journal.unlink):
        damage()
        for resume in (False, True):
            with pytest.raises(RunError, match=r"journal.jsonl is empty or missing, but there is .*iteration-01"):
                open_run(tmp_path, resume=resume)
    assert (tmp_path / "weights" / "iteration-01.safetensors").exists()


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
    run_of(tmp_path, 2)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in (last, last + 1, len(whole) - 1):
        journal.write_bytes(whole[:end])
        with open_run(tmp_path, resume=True) as folder:
            assert [state.iteration for state in folder.accepted()] == [1]
        assert journal.read_bytes() == whole[:last]


DAMAGE = {
    "another document": ("{}", "not a journal entry"),
    "not JSON": ("nonsense", "not a journal entry"),
    "deep": ("[" * 100_000, "not a journal entry"),
    "unknown event": ('{"event": "paused"}', "not a journal entry"),
    "text for a number": ('{"event": "fine-tuned", "score": "0.5", "loss": 1.0}', "score: .*valid number"),
    "not a number": ('{"event": "fine-tuned", "score": NaN, "loss": 1.0}', "score: .*finite"),
    "too early": ('{"event": "tested"}', "'tested' at the wrong place"),
    "a second start": (
        '{"event": "started", "resources": {"macs": 9.0}, "score": 0.5, "loss": 1.0, "corrections": {}}',
        "has started already",
    ),
}


@pytest.mark.parametrize(("line", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_journal_names_the_line(tmp_path: Path, line: str, message: str) -> None:
    lines = run_of(tmp_path, 1)
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(lines) + line + "\n{")
    before = journal.read_bytes()
    with pytest.raises(RunError, match=f"journal.jsonl, line {len(lines) + 1}: .*{message}"):
        open_run(tmp_path, resume=True)
    # Not even the cut last line was taken off, and the failed attempt does not keep the folder locked.
    assert journal.read_bytes() == before
    journal.write_text("".join(lines))
    open_run(tmp_path, resume=True).close()


def test_lines_that_are_swapped_missing_or_edited_are_found(tmp_path: Path) -> None:
    lines = run_of(tmp_path, 3)
    start_, *rest = lines
    edited = [line.replace('"score": 0.5', '"score": 0.9') if '"accepted"' in line else line for line in lines]
    wider = [line.replace('"a": 7', '"a": 9') for line in lines]
    damaged = {
        "swapped": ([start_, *rest[:1], *rest[3:4], *rest[2:3], *rest[1:2], *rest[4:]], 3),
        "missing": ([start_, rest[0], *rest[2:]], 3),
        "headless": (rest, 1),
        "edited": (edited, 3),
        "wider": (wider, 4),
    }
    for content, number in damaged.values():
        (tmp_path / "journal.jsonl").write_text("".join(content))
        with pytest.raises(RunError, match=f"journal.jsonl, line {number}: "):
            open_run(tmp_path, resume=True)


def test_missing_weights_and_a_journal_without_its_end_are_found(tmp_path: Path) -> None:
    lines = run_of(tmp_path, 3)
    (tmp_path / "journal.jsonl").write_text("".join(lines[:3]))
    with pytest.raises(RunError, match=r"lines at its end are missing, as there is .*iteration-03.safetensors"):
        open_run(tmp_path, resume=True)
    (tmp_path / "journal.jsonl").write_text("".join(lines))
    (tmp_path / "weights" / "iteration-02.safetensors").unlink()
    with pytest.raises(RunError, match=r"iteration-02.safetensors is missing; restore it"):
        open_run(tmp_path, resume=True)


@pytest.mark.parametrize("content", ["1", "null", "{", "[" * 100_000, "\ud800", '{"schema_version": 1}'])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    run_of(tmp_path, 1)
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(RunError, match=r"config.json: (damaged|not the configuration of a run) .*another folder"):
        open_run(tmp_path, resume=True)


def test_the_search_stands_at_the_last_accepted_network(tmp_path: Path) -> None:
    original = State(0, {"a": 9}, {"macs": 90.0}, 0.6, 1.0, tmp_path / "original")
    with open_run(tmp_path) as folder:
        assert folder.state(original) is original
        start(folder)
        accept(folder, 1)
        accept(folder, 2)
        assert folder.state(original) == State(2, {"a": 7}, {"macs": 70.0}, 0.5, 1.0, folder.weights(2))
        for other in ({"b": 9}, {"a": 6}):
            with pytest.raises(RunError, match="was not made from this one"):
                folder.state(replace(original, widths=other))


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
        start(folder)
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
