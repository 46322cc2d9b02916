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
from netadapt.search.outcome import Look, Outcome, State, image_results_path
from netadapt.search.proposals import Proposal

SCHEMA_VERSION = 1

#: Of a proposal in the names of its files; a combination of many groups has a long name.
_NAME_LENGTH = 40

#: Fields of the configuration that change how long a run takes, not what it finds.
_FREE_TO_CHANGE = frozenset({"workers"})


class RunFolder:
    """An open run folder, locked against a second run. Close it, or use it as a context manager.

    Raises:
        RunError: from every method, when the folder cannot be read or written.

    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock
        self.events = _read_journal(path / "journal.jsonl")

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any], resume: bool) -> Self:
        """Begin a run, or go on with the one in the folder; one that ended before it began is begun anew.

        Raises:
            RunError: there is a run already but `resume` is not asked for, somebody else is at it, it was asked for
                something else, or the folder cannot be written.

        """
        lock = _lock(path)
        try:
            folder = cls(path, lock)
            asked = {"schema_version": SCHEMA_VERSION, **config}
            if not folder.events:
                _write(path / "config.json", _document(asked))
            elif resume:
                _check_config(path / "config.json", asked)
            else:
                raise RunError(f"{path} holds a run already; continue it with --resume or choose another folder")
            return folder
        except BaseException:
            lock.close()
            raise

    def record(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append an event to the journal and give it back; when this returns, it survives a kill."""
        entry = {"event": event, **fields}
        line = json.dumps(entry, sort_keys=True)
        try:
            with (self.path / "journal.jsonl").open("a", encoding="utf-8") as journal:
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

    def state(self, original: State) -> State:
        """The network where the search stands."""
        accepted = self.accepted()
        return accepted[-1] if accepted else original

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
        return self.path / "weights" / f"iteration-{iteration:02d}.safetensors"

    def image_results(self, iteration: int) -> Path:
        """How good the accepted network of an iteration is on each hold-out image; there are none for some tasks."""
        return self.path / "holdout" / f"iteration-{iteration:02d}.safetensors"

    def onnx(self, iteration: int) -> Path:
        """ONNX model of the accepted network of an iteration; 0 is the original."""
        return self.path / "onnx" / f"iteration-{iteration:02d}.onnx"

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


def _read_journal(path: Path) -> list[dict[str, Any]]:
    """Read the events; a last line that a kill cut short never happened and is taken off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        _write(path, whole)
    events = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            events.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise RunError(f"{path}, line {number}: not a journal entry; the run cannot be resumed") from None
    return events


def _lock(path: Path) -> IO[str]:
    """Lock the folder. A record lock, because forked workers must not inherit it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise RunError(f"{path}: the run folder cannot be written: {error.strerror}") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunError(f"{path} is in use by another run; wait for it or choose another folder") from None
    return lock


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); the run cannot be resumed") from error
    if stored.get("schema_version") != SCHEMA_VERSION:
        raise RunError(f"{path}: made by another version of netadapt; begin a new run")
    asked = json.loads(json.dumps(config))
    different = [
        f"{name} (was {stored.get(name)!r}, now {asked.get(name)!r})"
        for name in sorted(stored.keys() | asked.keys())
        if name not in _FREE_TO_CHANGE and stored.get(name) != asked.get(name)
    ]
    if different:
        raise RunError(f"{path.parent} is a run of something else; resume it with the same {'; '.join(different)}")


def _document(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error}); resume when it can") from error
