"""Read the folder of a run that has ended or is still in progress, without touching it.

The journal is what happened; a last line without its end is being written, or was cut short by a kill, and never
happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from netadapt.search.journal import read_config, read_journal
from netadapt.search.record import Accepted, Config, Event, FineTuned, Finished, Proposed, Started, Summary, Widths

_WIDTHS: TypeAdapter[Widths] = TypeAdapter(Widths)
_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True)
class RunRecord:
    """A run as far as it has come."""

    path: Path
    config: Config
    started: Started | None
    proposals: tuple[Proposed, ...]
    accepted: tuple[Accepted, ...]
    fine_tuned: FineTuned | None
    summary: Summary | None
    #: Widths of the original network; empty where neither the summary nor the weights tell them.
    original_widths: Widths


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        RunError: a document of it is missing, damaged, or of a newer version.

    """
    config = read_config(path).config
    events = read_journal(path, config).events
    accepted = tuple(event for event in events if isinstance(event, Accepted))
    finished = _last(events, Finished)
    summary = finished.summary if finished else None
    return RunRecord(
        path=path,
        config=config,
        started=_last(events, Started),
        proposals=tuple(event for event in events if isinstance(event, Proposed)),
        accepted=accepted,
        fine_tuned=_last(events, FineTuned),
        summary=summary,
        original_widths=summary.original.widths if summary else _original_widths(path, accepted),
    )


def _last(events: list[Event], kind: type[_Kind]) -> _Kind | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _original_widths(path: Path, accepted: tuple[Accepted, ...]) -> Widths:
    """The widths that the weights of the original network are said to have, if they can be."""
    from netadapt.zoo.weight_header import read_facts

    weights = path / "weights" / "iteration-00.safetensors"
    try:
        widths = _WIDTHS.validate_python(read_facts(weights).get("widths")) if weights.is_file() else {}
    except ValidationError:
        return {}
    return {} if accepted and accepted[0].widths.keys() != widths.keys() else widths
