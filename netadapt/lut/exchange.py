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
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from netadapt.errors import TableError
from netadapt.files import read_at_most, write_atomically
from netadapt.lut.entries import Entry, EntryFaults, Numbers, place_of, read_workload, require_unit
from netadapt.measure.measurement import Measurement, Provenance

SCHEMA_VERSION = 1

_MOST_FAULTS_SHOWN = 20
#: Of a file to read: a hundred thousand entries, which take hours to measure.
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class _Line(Numbers):
    workload: dict[str, Any]
    provenance: str


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_version: Literal[1]
    provenances: dict[str, Provenance]
    entries: list[_Line]


_FILE = TypeAdapter(_File)


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
        file = _FILE.validate_json(read_at_most(path, _MOST_BYTES), strict=True)
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise TableError(_listing(path, [place_of(fault) for fault in error.errors()])) from error
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
    try:
        require_unit(line)
    except EntryFaults as error:
        faults += [f"{place}.{fault}" for fault in error.faults]
    if line.provenance not in provenances:
        faults.append(f"{place}.provenance: {line.provenance!r} is not among the file's provenances")
    try:
        workload = read_workload(_canonical(line.workload))
    except EntryFaults as error:
        faults += [f"{place}.{fault}" for fault in error.faults]
        return None
    if len(faults) > before:
        return None
    return Entry(workload, Measurement(**fields, provenance=provenances[line.provenance]))


def _listing(path: Path, faults: list[str]) -> str:
    shown = faults[:_MOST_FAULTS_SHOWN]
    more = [f"... and {len(faults) - len(shown)} more"] if len(faults) > len(shown) else []
    return f"{path}: not a table of schema_version {SCHEMA_VERSION}:\n  " + "\n  ".join(shown + more)


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))
