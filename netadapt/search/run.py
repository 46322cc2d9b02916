"""The run folder: everything a search has found, written so that a kill at any instant loses only work in flight.

RUN/config.json                 what was asked for; a resumed run must ask for the same
RUN/journal.jsonl               one event a line, appended and flushed: the truth about what happened
RUN/weights/iteration-03.safetensors, RUN/onnx/iteration-03.onnx     every accepted network, deployable
RUN/holdout/iteration-03.safetensors     how good each accepted network is on every hold-out image
RUN/proposals/                  weights of the iteration in progress
RUN/summary.json                written last
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Self

from netadapt.errors import RunError
from netadapt.files import write_atomically
from netadapt.search.changed_options import changed_options
from netadapt.search.journal import CONFIG, JOURNAL, LOCK, SCHEMA_VERSION, read_config, read_journal, require_free
from netadapt.search.outcome import Look, Outcome, State, image_results_path
from netadapt.search.proposals import Proposal

#: Of a proposal in the names of its files; a combination of many groups has a long name.
_NAME_LENGTH = 40


class RunFolder:
    """An open run folder, locked against a second run. Close it, or use it as a context manager.

    Raises:
        RunError: from every method, when the folder cannot be read or written.

    """

    def __init__(self, path: Path, lock: IO[str], events: list[dict[str, Any]]) -> None:
        self.path = path
        self._lock = lock
        self.events = events

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any], resume: bool) -> Self:
        """Begin a run, or go on with the one in the folder; one that ended before it began is begun anew.

        Raises:
            RunError: the folder holds something else than a run, or a damaged one; there is a run already but `resume`
                is not asked for, another process is at it, it was asked for something else, or the folder cannot be
                written. Nothing in it was changed then.

        """
        asked = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **config}))
        require_free(path, resume)
        lock = _lock(path)
        try:
            require_free(path, resume)  # again: another run may have ended meanwhile
            events = _events_before(path, asked)
            if not events:
                _write(path / CONFIG, _document(asked))
            return cls(path, lock, events)
        except BaseException:
            lock.close()
            raise

    def record(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append an event to the journal and give it back; when this returns, it survives a kill."""
        entry = {"event": event, **fields}
        # In the order given: a resumed search finds groups and metrics in the order of the network.
        line = json.dumps(entry)
        try:
            with (self.path / JOURNAL).open("a", encoding="utf-8") as journal:
                journal.write(line + "\n")
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: the journal cannot be written ({error}); resume when it can") from error
        self.events.append(entry)
        return entry

    def last(self, event: str) -> dict[str, Any] | None:
        """The newest event of a kind."""
        return next((entry for entry in reversed(self.events) if entry["event"] == event), None)

    def all(self, event: str) -> list[dict[str, Any]]:
        """The events of a kind in order."""
        return [entry for entry in self.events if entry["event"] == event]

    def state(self, original: State) -> State:
        """The network where the search stands; if its prediction was corrected since, with what it is now.

        Raises:
            RunError: it has other channel groups than the original, or is wider: the journal is damaged.

        """
        accepted = self.accepted()
        if not accepted:
            return original
        last = accepted[-1]
        groups = original.widths
        if last.widths.keys() != groups.keys() or any(last.widths[group] > groups[group] for group in groups):
            raise RunError(
                f"{self.path / JOURNAL}: the network of iteration {last.iteration} was not made from this one: it has "
                "other channel groups, or more channels; restore the journal, or begin a new run in another folder"
            )
        corrected = self.last("corrected")
        resources = corrected["resources"] if corrected and corrected["iteration"] == last.iteration else last.resources
        # Runs of older versions have them in another order, on which the order of proposals depends.
        return replace(
            last,
            widths={group: last.widths[group] for group in groups},
            resources={metric: resources[metric] for metric in original.resources},
        )

    def accepted(self) -> list[State]:
        """All accepted networks in order."""
        return [
            State(
                entry["iteration"],
                entry["widths"],
                entry["resources"],
                entry["score"],
                entry["loss"],
                self.weights(entry["iteration"]),
            )
            for entry in self.events
            if entry["event"] == "accepted"
        ]

    def outcome(self, proposal: Proposal, look: Look) -> Outcome | None:
        """What became of a proposal at a look, if it was made before and its weights are still there.

        A dropped one is made again: what it failed of (memory, disk) may be better now.
        """
        weights = self.proposal_weights(proposal, look)
        for entry in reversed(self.events):
            if entry["event"] == "proposal" and _is_about(entry, proposal, look):
                outcome = replace(Outcome.from_json(entry["outcome"]), weights=weights)
                return outcome if not outcome.dropped and weights.exists() else None
        return None

    def outcomes(self, iteration: int) -> list[Outcome]:
        """All outcomes of an iteration, in the order in which they were made; weights may be gone."""
        made = (entry["outcome"] for entry in self.events if entry["event"] == "proposal")
        return [Outcome.from_json(fields) for fields in made if fields["proposal"]["iteration"] == iteration]

    def weights(self, iteration: int) -> Path:
        """Weights of the accepted network of an iteration; 0 is the original."""
        return self.path / "weights" / f"{_name(iteration)}.safetensors"

    def image_results(self, iteration: int) -> Path:
        """How good the accepted network of an iteration is on each hold-out image; there are none for some tasks."""
        return self.path / "holdout" / f"{_name(iteration)}.safetensors"

    def onnx(self, iteration: int) -> Path:
        """ONNX model of the accepted network of an iteration; 0 is the original."""
        return self.path / "onnx" / f"{_name(iteration)}.onnx"

    def proposal_weights(self, proposal: Proposal, look: Look) -> Path:
        """Weights of a proposal of the iteration in progress, as they are at a look."""
        name = "".join(letter if letter.isalnum() else "_" for letter in proposal.group)[:_NAME_LENGTH]
        facts = json.dumps([proposal.widths, asdict(look)], sort_keys=True)
        digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
        return self.path / "proposals" / f"{proposal.iteration:02d}-{name}-{digest}.safetensors"

    def keep_weights(self, outcome: Outcome, iteration: int) -> Path:
        """Make the weights of a proposal those of the network of `iteration`."""
        kept = self.weights(iteration)
        images = image_results_path(outcome.weights)
        try:
            kept.parent.mkdir(exist_ok=True)
            # The weights first: without them a proposal counts as not made, and is made again with all its files.
            outcome.weights.replace(kept)
            if images.exists():
                self.image_results(iteration).parent.mkdir(exist_ok=True)
                images.replace(self.image_results(iteration))
        except OSError as error:
            raise RunError(f"{kept} cannot be written ({error}); resume when it can") from error
        return kept

    def clear_proposals(self) -> None:
        """Remove what an iteration leaves behind once its best proposal has been accepted."""
        shutil.rmtree(self.path / "proposals", ignore_errors=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, the last thing a run does."""
        _write(self.path / "summary.json", _document(summary))

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_about(entry: Mapping[str, Any], proposal: Proposal, look: Look) -> bool:
    seen = entry["outcome"]["proposal"]
    asked = (proposal.iteration, proposal.group, proposal.widths, asdict(look))
    return (seen["iteration"], seen["group"], seen["widths"], entry["outcome"].get("look")) == asked


def _events_before(path: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the events of the run in a folder; a last line that a kill cut short is taken off the journal."""
    if not (path / CONFIG).exists():
        return []
    stored = read_config(path)
    journal = read_journal(path, stored.config)
    if not journal.lines:
        _require_not_started(path)
        return []
    if stored.config.schema_version != SCHEMA_VERSION:
        raise RunError(
            f"{path}: made by an older version of netadapt, so it cannot be resumed; begin a new run in another folder "
            "(netadapt report still reads this one)"
        )
    if changed := changed_options(stored.fields, asked):
        raise RunError(
            f"{path} is a run with other options: {'; '.join(changed)}. Resume it with those that it began with, or "
            "choose another folder"
        )
    accepted = [line.fields["iteration"] for line in journal.lines if line.fields["event"] == "accepted"]
    fine_tuned = any(line.fields["event"] == "fine-tuned" for line in journal.lines)
    _require_weights(path / "weights", len(accepted), fine_tuned)
    if journal.is_cut:
        _write(path / JOURNAL, journal.whole)
    return [line.fields for line in journal.lines]


def _require_not_started(path: Path) -> None:
    """An empty journal beside what only a run that has started writes is damage."""
    made = [file for folder in ("weights", "onnx", "holdout") for file in (path / folder).glob("iteration-*")]
    later = [file for file in made if file.stem != _name(0)]
    later += [file for file in (path / "summary.json", path / "proposals") if file.exists()]
    if later:
        raise RunError(
            f"{path / JOURNAL} is empty or missing, but there is {min(later)}: the journal is damaged, restore it from "
            "a copy, or begin a new run in another folder"
        )


def _require_weights(folder: Path, accepted: int, fine_tuned: bool) -> None:
    """Make sure that there are the weights of all networks that were accepted, and of no later ones."""
    names = [_name(iteration) for iteration in range(accepted + 1)] + (["adapted"] if fine_tuned else [])
    for name in names:
        if not (folder / f"{name}.safetensors").is_file():
            raise RunError(
                f"{folder / name}.safetensors is missing; restore it from a copy, or begin a new run in another folder"
            )
    # Those of the next one may be there: weights are kept before the journal says so.
    later = folder / f"{_name(accepted + (1 if fine_tuned else 2))}.safetensors"
    if later.exists():
        raise RunError(
            f"{folder.parent / JOURNAL}: lines at its end are missing, as there is {later}; restore it from a copy, or "
            "begin a new run in another folder"
        )


def _name(iteration: int) -> str:
    return f"iteration-{iteration:02d}"


def _lock(path: Path) -> IO[str]:
    """Lock the folder. A record lock, because forked workers must not inherit it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("a")
    except OSError as error:
        raise RunError(f"{path}: the run folder cannot be written: {error.strerror}") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunError(f"{path} is in use by another run; wait for it or choose another folder") from None
    return lock


def _document(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error}); resume when it can") from error
