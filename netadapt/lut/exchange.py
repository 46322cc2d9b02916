"""Tables as JSON files: what is committed, published and merged.

The text is canonical: the same entries give the same bytes, one entry a line, so that a change shows as a small
difference. Provenances, which many entries share, are written once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from netadapt.errors import TableError
from netadapt.files import write_atomically
from netadapt.measure.measurement import UNITS, Measurement, Provenance, Status, Tier
from netadapt.network.workload import Workload

SCHEMA_VERSION = 1

_MOST_FAULTS_SHOWN = 20
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table."""

    workload: Workload
    measurement: Measurement


@dataclass(frozen=True)
class _Line:
    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    workload: dict[str, Any]
    provenance: str
    metric: str
    unit: str
    value: _Count
    minimum: _Count
    median: _Count
    mad: _Count
    samples: _Count
    clean_fraction: Annotated[float, Field(ge=0, le=1)]
    relative_half_width: Annotated[float, Field(ge=0)] | None
    status: Status
    tier: Tier


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_version: Literal[1]
    provenances: dict[str, Provenance]
    entries: list[_Line]


_FILE = TypeAdapter(_File)
_WORKLOAD = TypeAdapter(Workload)


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries in canonical form; the file is replaced as a whole or not at all.

    Raises:
        TableError: the file cannot be written.

    """
    lines: list[str] = []
    provenances: dict[str, str] = {}
    for entry in sorted(entries, key=_order):
        fields = asdict(entry.measurement)
        provenance = _canonical(fields.pop("provenance"))
        digest = hashlib.sha256(provenance.encode()).hexdigest()[:16]
        provenances[digest] = provenance
        lines.append(_canonical({**fields, "provenance": digest, "workload": asdict(entry.workload)}))
    shared = ",\n".join(f'"{digest}":{text}' for digest, text in sorted(provenances.items()))
    body = ",\n".join(lines)
    text = f'{{"schema_version":{SCHEMA_VERSION},\n"provenances":{{\n{shared}\n}},\n"entries":[\n{body}\n]}}\n'
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error.strerror}; the file is as it was") from error


def read_entries(path: Path) -> list[Entry]:
    """Read and validate a file that `write_entries` wrote.

    Raises:
        TableError: the file cannot be read, or is not such a file; lists its faults with their places.

    """
    try:
        file = _FILE.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise TableError(_listing(path, [_place(fault) for fault in error.errors()])) from error
    faults: list[str] = []
    entries = [_entry(index, line, file.provenances, faults) for index, line in enumerate(file.entries)]
    if faults:
        raise TableError(_listing(path, faults))
    return [entry for entry in entries if entry]


def _order(entry: Entry) -> tuple[str, str, str]:
    return entry.measurement.provenance.fingerprint, entry.measurement.metric, entry.workload.to_json()


def _entry(index: int, line: _Line, provenances: dict[str, Provenance], faults: list[str]) -> Entry | None:
    """Check what the types cannot say; faults are added to the list."""
    place = f"entries.{index}"
    before = len(faults)
    fields = {name: value for name, value in line.__dict__.items() if name not in ("workload", "provenance")}
    if line.metric not in UNITS or line.unit != UNITS[line.metric]:
        faults.append(f"{place}.unit: metric {line.metric!r} in {line.unit!r}; known: {UNITS}")
    if line.provenance not in provenances:
        faults.append(f"{place}.provenance: {line.provenance!r} is not among the file's provenances")
    workload = _workload(place, line.workload, faults)
    if workload is None or len(faults) > before:
        return None
    return Entry(workload, Measurement(**fields, provenance=provenances[line.provenance]))


def _workload(place: str, fields: dict[str, Any], faults: list[str]) -> Workload | None:
    try:
        workload = _WORKLOAD.validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        faults.extend(f"{place}.workload.{_place(fault)}" for fault in error.errors())
        return None
    if workload.to_json() != _canonical(fields):
        # Its key would not be the one under which it is looked up.
        faults.append(f"{place}.workload: fields missing or too many: {sorted(fields)}")
        return None
    return workload


def _place(fault: Any) -> str:
    return f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"


def _listing(path: Path, faults: list[str]) -> str:
    shown = faults[:_MOST_FAULTS_SHOWN]
    more = [f"... and {len(faults) - len(shown)} more"] if len(faults) > len(shown) else []
    return f"{path}: not a table of schema_version {SCHEMA_VERSION}:\n  " + "\n  ".join(shown + more)


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))
