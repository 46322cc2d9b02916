"""Read the journal and the configuration of a run, and make sure that they tell of a search that can have happened.

Whether a search goes on or a report is written: both read here, and what is damaged is refused here, with its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from netadapt.errors import RunError
from netadapt.measure.definitions import faults_of
from netadapt.search.record import (
    Accepted,
    Compared,
    Config,
    Corrected,
    Event,
    FineTuned,
    Finished,
    Measured,
    ProposalOutcome,
    Proposed,
    Started,
    Summary,
    Tested,
)

#: 2: budgets are judged by what was measured, and what no budget limits may not be predicted.
SCHEMA_VERSION = 2
JOURNAL = "journal.jsonl"
CONFIG = "config.json"
LOCK = ".lock"

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_FAULTS_SHOWN = 3
_WHAT_TO_DO = "restore it from a copy, or begin a new run in another folder"


@dataclass(frozen=True)
class Configuration:
    """The configuration of a run: as it was read, and as plain values."""

    config: Config
    fields: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the journal: what was read, and its plain values."""

    event: Event
    fields: dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """A journal whose lines were checked; `is_cut` says that the last one has no end, and never happened."""

    lines: tuple[Line, ...]
    #: The bytes of the lines.
    whole: bytes
    is_cut: bool

    @property
    def events(self) -> list[Event]:
        """The events, in order."""
        return [line.event for line in self.lines]


def require_free(folder: Path, resume: bool) -> None:
    """Make sure that a run can begin in a folder, or go on there with `resume`; nothing is written.

    Raises:
        RunError: the folder holds something else than a run, or a run although `resume` is not asked for.

    """
    try:
        there = [entry for entry in folder.iterdir() if entry.name != LOCK]
    except (FileNotFoundError, NotADirectoryError):
        return  # who makes the folder says what is wrong
    except OSError as error:
        raise RunError(f"{folder}: the run folder cannot be read: {error.strerror}") from error
    if there and not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not empty and holds no run of netadapt; choose a new or an empty folder")
    if there and read_journal(folder, _config_of_run(folder)).lines and not resume:
        raise RunError(f"{folder} holds a run already; continue it with --resume or choose another folder")


def _config_of_run(folder: Path) -> Config:
    try:
        return read_config(folder).config
    except RunError as error:
        if (folder / JOURNAL).exists():
            raise
        raise RunError(
            f"{folder}: {CONFIG} there is not the configuration of a run; choose a new or an empty folder"
        ) from error


def read_config(folder: Path) -> Configuration:
    """Read the configuration of the run in a folder.

    Raises:
        RunError: it cannot be read, is damaged or of a newer version, or is not the configuration of a run.

    """
    path = folder / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; {_WHAT_TO_DO}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged ({error}); {_WHAT_TO_DO}") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise _newer(path, version)
    try:
        return Configuration(Config.model_validate_json(text), fields)
    except ValidationError as error:
        raise RunError(f"{path}: not the configuration of a run ({_first_faults(error)}); {_WHAT_TO_DO}") from error


def read_journal(folder: Path, config: Config) -> Journal:
    """Read the journal of the run in a folder, which was asked for by `config`; one that does not exist is empty.

    Raises:
        RunError: it cannot be read, or a line is not an event of a run or cannot follow those before it; names it.

    """
    path = folder / JOURNAL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; {_WHAT_TO_DO}") from error
    whole = content[: content.rfind(b"\n") + 1]
    # Not by splitlines, for which other characters end a line too.
    lines = tuple(_line(path, number, text) for number, text in enumerate(whole.split(b"\n")[:-1], start=1))
    course = _Course(frozenset(budget.split("=")[0] for budget in config.budgets))
    for number, line in enumerate(lines, start=1):
        if fault := course.fault_of(line.event):
            raise RunError(f"{path}, line {number}: {fault}; the journal is damaged, {_WHAT_TO_DO}")
        course.take(line.event)
    return Journal(lines, whole, is_cut=whole != content)


def _newer(path: Path, version: int) -> RunError:
    return RunError(f"{path}: has schema_version {version}, this netadapt reads {SCHEMA_VERSION}; update netadapt")


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        line = Line(_EVENT.validate_json(text), json.loads(text))
    except ValidationError as error:
        reason = _first_faults(error)
    except (ValueError, RecursionError) as error:
        reason = str(error)
    else:
        if isinstance(line.event, Finished) and line.event.summary.schema_version > SCHEMA_VERSION:
            raise _newer(path, line.event.summary.schema_version)
        return line
    raise RunError(f"{path}, line {number}: not a journal entry ({reason}); the journal is damaged, {_WHAT_TO_DO}")


def _first_faults(error: ValidationError) -> str:
    return "; ".join(faults_of(error)[:_FAULTS_SHOWN])


@dataclass
class _Course:
    """How far a search has come by its journal, and what can happen next."""

    #: That have a budget.
    limited: frozenset[str]
    started: Started | None = None
    accepted: list[Accepted] = field(default_factory=list)
    #: Of the iteration in progress.
    made: list[ProposalOutcome] = field(default_factory=list)
    fine_tuned: bool = False
    tested: bool = False
    finished: bool = False

    def take(self, event: Event) -> None:
        match event:
            case Started():
                self.started = event
            case Proposed():
                self.made.append(event.outcome)
            case Accepted():
                self.accepted.append(event)
                self.made = []
            case FineTuned():
                self.fine_tuned = True
            case Tested():
                self.tested = True
            case Finished():
                self.finished = True

    def fault_of(self, event: Event) -> str:
        """Why the event cannot be the next one; empty if it can."""
        if isinstance(event, Started):
            return "the run has started already" if self.started else self._fault_of_metrics(event.resources)
        if self.started is None:
            return f"{event.event!r} before the run has started"
        if self.finished:
            return f"{event.event!r} after the run has finished"
        match event:
            case Proposed():
                return self._fault_of_proposal(event.outcome)
            case Accepted():
                return self._fault_of_accepted(event, self.started)
            case Corrected():
                return self._fault_of_corrected(event, self.started)
            case Finished():
                return self._fault_of_summary(event.summary) if self.tested else f"{event.event!r} before the test"
            case _:
                return "" if self._is_in_order(event) else f"{event.event!r} at the wrong place"

    def _is_in_order(self, event: Measured | Compared | FineTuned | Tested) -> bool:
        if isinstance(event, Measured | Compared):
            return event.iteration <= len(self.accepted)
        if isinstance(event, FineTuned):
            return bool(self.accepted) and not self.fine_tuned
        return self.fine_tuned

    def _fault_of_proposal(self, outcome: ProposalOutcome) -> str:
        proposal, done = outcome.proposal, len(self.accepted)
        if self.fine_tuned:
            return "a proposal after the long fine-tune"
        if proposal.iteration != done:
            return f"a proposal from the network of iteration {proposal.iteration}, while that of {done} is the last"
        return self._fault_of_metrics(proposal.resources) or self._fault_of_widths(proposal.widths)

    def _fault_of_metrics(self, found: Mapping[str, object]) -> str:
        missing = sorted(self.limited - found.keys())
        return f"it does not say what the network costs in {', '.join(missing)}" if missing else ""

    def _fault_of_accepted(self, event: Accepted, started: Started) -> str:
        if self.fine_tuned:
            return "a network was accepted after the long fine-tune"
        if event.iteration != len(self.accepted) + 1:
            return f"the network of iteration {event.iteration} was accepted after that of {len(self.accepted)}"
        if event.resources.keys() != started.resources.keys():
            return "it has other metrics than the original"
        if not any(_is_of(event, outcome) for outcome in self.made):
            return f"the network of iteration {event.iteration} is none of the proposals before it"
        return self._fault_of_widths(event.widths)

    def _fault_of_corrected(self, event: Corrected, started: Started) -> str:
        if not self.accepted or self.fine_tuned or event.iteration != len(self.accepted):
            return f"{event.event!r} at the wrong place"
        return "" if event.resources.keys() == started.resources.keys() else "it has other metrics than the original"

    def _fault_of_widths(self, widths: Mapping[str, int]) -> str:
        known = self.accepted[-1].widths if self.accepted else self.made[0].proposal.widths if self.made else widths
        if widths.keys() != known.keys():
            return "it has other channel groups than the networks before it"
        if self.accepted and any(width > known[group] for group, width in widths.items()):
            return "it is wider than the network before it"
        return ""

    def _fault_of_summary(self, summary: Summary) -> str:
        last = self.accepted[-1]
        listed = [(point.iteration, point.widths, point.holdout_accuracy) for point in summary.pareto]
        accepted = [(event.iteration, event.widths, event.score) for event in self.accepted]
        if (summary.iterations, summary.adapted.widths) != (last.iteration, last.widths) or listed != accepted:
            return "its summary does not tell of the networks that were accepted"
        if summary.original.widths.keys() != last.widths.keys():
            return "its summary has other channel groups than the networks that were accepted"
        return self._fault_of_metrics(summary.budget)


def _is_of(event: Accepted, outcome: ProposalOutcome) -> bool:
    seen = (outcome.proposal.group, outcome.proposal.widths, outcome.score, outcome.loss)
    return not outcome.dropped and seen == (event.group, event.widths, event.score, event.loss)
