"""Read the folder of a run that has ended or is still in progress, without touching it.

The journal is what happened; a last line without its end is being written, or was cut short by a kill, and never
happened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from netadapt.errors import RunError
from netadapt.measure.definitions import faults_of
from netadapt.search.run import SCHEMA_VERSION
from netadapt.search.strategy import PAPER, Strategy

_Widths = dict[str, int]


class _Part(BaseModel):
    """A part of a document of a run, with the fields that a report needs."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Correction(_Part):
    """What whole networks cost beyond the sum of their layers; see `netadapt.lut.estimator`."""

    scale: float
    offset: float
    networks: int
    residual: float


class Pace(_Part):
    """How the reduction was spread over the iterations."""

    iterations: int
    decay: float
    initial_reduction: float | None


class TrainingOptions(_Part):
    """Of a fine-tune."""

    batch_size: int
    lr: float


class Training(_Part):
    """A fine-tune."""

    steps: int
    options: TrainingOptions


class Config(_Part):
    """What was asked for: `config.json`."""

    schema_version: int
    network: str
    data: str
    platform: str
    fingerprint: str
    budgets: tuple[str, ...]
    selection: str
    #: Runs of older versions do not have it.
    strategy: Strategy = PAPER
    seed: int
    workers: int | str
    correction: bool
    pace: Pace
    short_term: Training
    long_term: Training


class Started(_Part):
    """The original network was measured and evaluated."""

    event: Literal["started"]
    resources: dict[str, float]
    score: float
    corrections: dict[str, Correction]


class _ProposedWidths(_Part):
    iteration: int
    group: str
    widths: _Widths
    resources: dict[str, float]


class _Outcome(_Part):
    proposal: _ProposedWidths
    score: float
    seconds: float
    dropped: str


class Proposed(_Part):
    """A proposal was made, or dropped."""

    event: Literal["proposal"]
    outcome: _Outcome


class Accepted(_Part):
    """A proposal became the network of its iteration."""

    event: Literal["accepted"]
    iteration: int
    group: str
    widths: _Widths
    resources: dict[str, float]
    score: float


class FineTuned(_Part):
    """The last network had its long fine-tune."""

    event: Literal["fine-tuned"]
    score: float


class Provenance(_Part):
    """Where a measurement comes from; see `netadapt.measure.measurement`."""

    runtime: str
    runtime_version: str
    machine: str
    os: str
    date: str
    netadapt: str
    protocol_version: int
    commit: str | None = None


class LayerTime(_Part):
    """A workload and its latency by the table."""

    workload: str
    latency_ns: float


class Product(BaseModel):
    """One of the two networks of a summary; costs of a platform's metrics have names of their own."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    widths: _Widths
    macs: int
    params: int
    latency_ns: Annotated[int, Field(gt=0)]
    latency_status: str
    predicted_latency_ns: int
    holdout_accuracy: float
    test_accuracy: float
    test_images: int
    provenance: Provenance
    #: Runs of older versions do not have it.
    layers: tuple[LayerTime, ...] = ()

    def cost(self, name: str) -> Any:
        """A field that depends on the platform's metrics, such as `energy_pj`; None where there is none."""
        return (self.model_extra or {}).get(name)


class Speedup(_Part):
    """Original over adapted latency, from interleaved pairs."""

    ratio: float
    low: float
    high: float
    verdict: str


class _Budget(_Part):
    limit: float
    original: float
    predicted: float


class _LeftOut(_Part):
    group: str
    reason: str


class _Dropped(_Part):
    iteration: int
    group: str
    reason: str


class _Cost(_Part):
    proposals: int
    dropped_proposals: tuple[_Dropped, ...]
    training_seconds: float
    wall_seconds: float
    measurements: int


class Summary(_Part):
    """What came out: `summary.json` and the journal's last event."""

    schema_version: int
    network: str
    data: str
    platform: str
    requested_platform: str
    tier: str
    budget: dict[str, _Budget]
    budget_met: bool
    stopped: str | None = None
    original: Product
    adapted: Product
    speedup: Speedup
    left_out: tuple[_LeftOut, ...]
    unknown_operations: tuple[str, ...]
    cost: _Cost

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if len(self.original.layers) != len(self.adapted.layers):
            raise ValueError("the original and the adapted network have different layers")
        return self


class Finished(_Part):
    """The run has ended."""

    event: Literal["finished"]
    summary: Summary


class _Other(_Part):
    event: Literal["tested"]


_Event = Started | Proposed | Accepted | FineTuned | Finished | _Other
_EVENT: TypeAdapter[_Event] = TypeAdapter(Annotated[_Event, Field(discriminator="event")])
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
    original_widths: _Widths


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        RunError: a document of it is missing, damaged, or of a newer version.

    """
    config = _config(path / "config.json")
    events = _events(path / "journal.jsonl")
    finished = _last(events, Finished)
    summary = finished.summary if finished else None
    if summary and summary.schema_version > SCHEMA_VERSION:
        raise _newer(path / "journal.jsonl", summary.schema_version)
    return RunRecord(
        path=path,
        config=config,
        started=_last(events, Started),
        proposals=tuple(event for event in events if isinstance(event, Proposed)),
        accepted=tuple(event for event in events if isinstance(event, Accepted)),
        fine_tuned=_last(events, FineTuned),
        summary=summary,
        original_widths=summary.original.widths if summary else _original_widths(path),
    )


def _config(path: Path) -> Config:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); restore it, or run again into another folder") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise _newer(path, version)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path}: not the configuration of a run: {'; '.join(faults_of(error))}") from error


def _events(path: Path) -> list[_Event]:
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1]
    return [_event(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]


def _event(path: Path, number: int, line: bytes) -> _Event:
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        faults = "; ".join(faults_of(error)[:3])
        raise RunError(f"{path}, line {number}: not a journal entry ({faults}); restore the journal") from error


def _last(events: list[_Event], kind: type[_Kind]) -> _Kind | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _original_widths(path: Path) -> _Widths:
    from netadapt.zoo.weight_header import read_facts

    weights = path / "weights" / "iteration-00.safetensors"
    widths = read_facts(weights).get("widths") if weights.is_file() else None
    return dict(widths) if isinstance(widths, dict) else {}


def _newer(path: Path, version: int) -> RunError:
    return RunError(f"{path}: has schema_version {version}, this netadapt reads {SCHEMA_VERSION}; update netadapt")
