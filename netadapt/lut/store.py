"""The store of the look-up table: an SQLite file that several processes fill and read at once.

The key of an entry is the digest of what determines its value: workload, platform fingerprint, protocol version.
A process that is killed loses the entry it was about to write, never one that is there.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from netadapt.errors import TableError
from netadapt.lut.entries import Entry, EntryFaults, read_numbers, read_provenance, read_workload
from netadapt.lut.exchange import read_entries, write_entries
from netadapt.measure.measurement import STATUSES, Measurement, Provenance
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.workload import Workload

#: Marks the file as ours ("NALT").
_APPLICATION_ID = 0x4E414C54
#: Statements that lead from each version of the file (`user_version`) to the next.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE provenance (digest TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE entry (
            key TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            protocol_version INTEGER NOT NULL,
            workload TEXT NOT NULL,
            metric TEXT NOT NULL,
            unit TEXT NOT NULL,
            value INTEGER NOT NULL,
            minimum INTEGER NOT NULL,
            median INTEGER NOT NULL,
            mad INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            clean_fraction REAL NOT NULL,
            relative_half_width REAL,
            status TEXT NOT NULL,
            tier TEXT NOT NULL,
            provenance TEXT NOT NULL REFERENCES provenance (digest),
            PRIMARY KEY (key, metric)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE network (
            fingerprint TEXT NOT NULL,
            digest TEXT NOT NULL,
            metric TEXT NOT NULL,
            json TEXT NOT NULL,
            PRIMARY KEY (fingerprint, digest, metric)
        ) STRICT, WITHOUT ROWID""",
    ),
)
_BUSY_S = 30.0
_NUMBERS = tuple(field.name for field in fields(Measurement) if field.name != "provenance")
_COLUMNS = ("key", "fingerprint", "protocol_version", "workload", "provenance", *_NUMBERS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM entry"
_UPSERT = f"INSERT OR REPLACE INTO entry ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
#: Longest text in a table, and of a list of keys to look up.
_MOST_TEXT = 1 << 24
#: Of the processor, for one look into the table. Damage can make a small file say that it has endless rows.
_SELECT_LIMIT_S = 20.0
#: Of SQLite's machine, after which the time is looked at.
_SELECT_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Merge:
    """What importing a file did to a table: number of entries."""

    added: int
    replaced: int
    kept: int


def default_path() -> Path:
    """Name the table in the user's cache folder."""
    return platformdirs.user_cache_path("netadapt") / "table.sqlite"


class Table:
    """An open table. Close it, or use it as a context manager. One for each process and thread.

    Every method raises TableError when the file cannot be read or written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path | str | None = None) -> Table:
        """Open a table, made if there is none; by default the one in the user's cache folder.

        Raises:
            TableError: the file is not a table, was made by a newer version, or cannot be opened or made.

        """
        file = Path(path) if path is not None else default_path()
        with _explained(file):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                ordinary = file.is_file() or not file.exists()
            except OSError as error:
                raise TableError(f"{file}: its folder cannot be made: {error.strerror}") from error
            if not ordinary:
                raise TableError(f"{file}: {_ADVICE[sqlite3.SQLITE_CANTOPEN]}")
            connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
            try:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_TEXT)
                _prepare(connection, file)
            except BaseException:
                connection.close()
                raise
        return cls(file, connection)

    def get(self, fingerprint: str, workload: Workload, metric: str = "latency") -> Measurement | None:
        """Look up one workload on the platform with this fingerprint."""
        return self.get_many(fingerprint, [workload], metric).get(workload)

    def get_many(
        self, fingerprint: str, workloads: Iterable[Workload], metric: str = "latency"
    ) -> dict[Workload, Measurement]:
        """Look up workloads; those that are not in the table are not in the result."""
        keys = json.dumps([_key(fingerprint, PROTOCOL_VERSION, workload.to_json()) for workload in workloads])
        condition = "metric = ? AND key IN (SELECT value FROM json_each(?))"
        return {entry.workload: entry.measurement for entry in self._select(condition, [metric, keys])}

    def put(self, workload: Workload, measurement: Measurement) -> None:
        """Store a measurement, in place of an older one of the same workload, platform, protocol and metric."""
        with _explained(self.path), _transaction(self._connection):
            self._write(Entry(workload, measurement))

    def distrust(self, fingerprint: str) -> None:
        """Mark all entries of a platform as contended: they were measured while the machine was slower than it is."""
        with _explained(self.path), _transaction(self._connection):
            self._connection.execute("UPDATE entry SET status = 'contended' WHERE fingerprint = ?", (fingerprint,))

    def entries(self, fingerprint: str | None = None, metric: str | None = None) -> Iterator[Entry]:
        """All entries of the current protocol version, or those of one platform or metric, in a stable order."""
        conditions, values = ["protocol_version = ?"], [PROTOCOL_VERSION]
        given: dict[str, Any] = {"fingerprint": fingerprint, "metric": metric}
        for column, value in given.items():
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        return iter(self._select(" AND ".join(conditions), values))

    def export_json(self, path: Path, fingerprint: str | None = None) -> int:
        """Write the entries to a file, canonical and sorted (see `exchange`); gives their number."""
        entries = list(self.entries(fingerprint))
        write_entries(path, entries)
        return len(entries)

    def import_json(self, path: Path) -> Merge:
        """Add the entries of a file that `export_json` wrote, all of them or none.

        An entry that is in the table already stays, unless the file has one with a better status (converged, then
        stable-noisy, unconverged, contended). So importing a file twice changes nothing.

        Raises:
            TableError: the file cannot be read or has faults; all of them are listed.

        """
        entries = read_entries(path)
        counts = {"added": 0, "replaced": 0, "kept": 0}
        with _explained(self.path), _transaction(self._connection):
            for entry in entries:
                measurement = entry.measurement
                there = self.get(measurement.provenance.fingerprint, entry.workload, measurement.metric)
                fate = "added" if there is None else "replaced" if _is_better(measurement, there) else "kept"
                counts[fate] += 1
                if fate != "kept":
                    self._write(entry)
        return Merge(**counts)

    def get_network(self, fingerprint: str, digest: str, metric: str = "latency") -> str | None:
        """Text that `put_network` stored for a network on a platform."""
        query = "SELECT json FROM network WHERE fingerprint = ? AND digest = ? AND metric = ?"
        with _explained(self.path):
            row = self._connection.execute(query, (fingerprint, digest, metric)).fetchone()
        return row[0] if row else None

    def put_network(self, fingerprint: str, digest: str, text: str, metric: str = "latency") -> None:
        """Store a JSON text about a network on a platform: whole-network measurements, corrections."""
        values = (fingerprint, digest, metric, text)
        with _explained(self.path), _transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO network VALUES (?, ?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _select(self, condition: str, values: list[Any]) -> list[Entry]:
        with _explained(self.path), self._limited():
            rows = self._fetch(f"{_SELECT} WHERE {condition}", values)
            # Where a page is damaged, a column may hold what its type forbids.
            digests = json.dumps(sorted({str(row["provenance"]) for row in rows}))
            shared = "SELECT digest, json FROM provenance WHERE digest IN (SELECT value FROM json_each(?))"
            texts = {row["digest"]: row["json"] for row in self._fetch(shared, [digests])}
        try:
            provenances = {digest: read_provenance(text) for digest, text in texts.items()}
            entries = [(row["fingerprint"], row["metric"], row["workload"], _entry(row, provenances)) for row in rows]
        except EntryFaults as error:
            raise TableError(f"{self.path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({error})") from error
        # Not by SQLite, which would sort endless rows before it gives the first.
        return [entry for *_, entry in sorted(entries, key=itemgetter(0, 1, 2))]

    def _fetch(self, query: str, values: list[Any]) -> list[dict[str, Any]]:
        """The rows of a query, unless they say more than the file has room for."""
        cursor = self._connection.execute(query, values)
        names = [column[0] for column in cursor.description]
        room = self._size()
        rows = []
        for values in cursor:
            room -= sum(len(value) for value in values if isinstance(value, str))
            if room < 0:
                raise TableError(f"{self.path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} (it says more than it can hold)")
            rows.append(dict(zip(names, values, strict=True)))
        return rows

    def _size(self) -> int:
        """Bytes of the file, what has not been merged into it included."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Interrupt what takes longer than reading any table."""
        deadline = time.thread_time() + _SELECT_LIMIT_S
        self._connection.set_progress_handler(lambda: time.thread_time() > deadline, _SELECT_STEPS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)

    def _write(self, entry: Entry) -> None:
        measurement, workload = entry.measurement, entry.workload
        source = measurement.provenance
        text = json.dumps(asdict(source), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._connection.execute("INSERT OR IGNORE INTO provenance VALUES (?, ?)", (digest, text))
        canonical = workload.to_json()
        key = _key(source.fingerprint, source.protocol_version, canonical)
        where = (key, source.fingerprint, source.protocol_version, canonical, digest)  # as in _COLUMNS
        self._connection.execute(_UPSERT, (*where, *(getattr(measurement, name) for name in _NUMBERS)))


def _entry(row: dict[str, Any], provenances: dict[str, Provenance]) -> Entry:
    """Make an entry of a row.

    Raises:
        EntryFaults: the row cannot have been written by this class.

    """
    workload = read_workload(row["workload"])
    numbers = read_numbers({name: row[name] for name in _NUMBERS})
    provenance = provenances.get(row["provenance"])
    if provenance is None:
        raise EntryFaults([f"provenance: {row['provenance']!r} is not in the table"])
    source = (provenance.fingerprint, provenance.protocol_version)
    if (row["fingerprint"], row["protocol_version"]) != source or row["key"] != _key(*source, row["workload"]):
        raise EntryFaults([f"key: not that of {workload} on the platform of its provenance"])
    return Entry(workload, Measurement(**vars(numbers), provenance=provenance))


def _key(fingerprint: str, protocol_version: int, workload: str) -> str:
    """The key of a workload, given as its canonical text."""
    digest = hashlib.sha256(workload.encode()).hexdigest()[:32]
    return hashlib.sha256(f"{digest} {fingerprint} {protocol_version}".encode()).hexdigest()[:32]


def _is_better(new: Measurement, old: Measurement) -> bool:
    return STATUSES.index(new.status) < STATUSES.index(old.status)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make an empty file a table, bring an older one up to date, refuse everything else."""
    # In one view of the file: another process may be making it a table just now.
    connection.execute("BEGIN")
    try:
        _check_owner(connection, path)
    finally:
        connection.execute("ROLLBACK")
    # Unlike other statements, this one does not wait for another process that is doing the same.
    _retry(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    # With WAL a kill of the process cannot tear a transaction; only a power cut can lose the last ones.
    connection.execute("PRAGMA synchronous = NORMAL")
    with _transaction(connection):
        version = _check_owner(connection, path)
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version < len(_MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        if _schema(connection) != _own_schema():
            raise TableError(f"{path}: damaged, or changed by another program: its tables are not those of netadapt")


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """All that is defined in a file, however it is spaced. A view or trigger of another's could do anything."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    return {(kind, name, " ".join(str(text).split())) for kind, name, text in connection.execute(query)}


@cache
def _own_schema() -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in chain(*_MIGRATIONS):
            connection.execute(statement)
        return _schema(connection)


def _check_owner(connection: sqlite3.Connection, path: Path) -> int:
    """Tell the version of the file, 0 for an empty one."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if objects and owner != _APPLICATION_ID:
        raise TableError(f"{path}: a database of another program, not a table of netadapt; name another file")
    if not 0 <= version <= len(_MIGRATIONS):
        raise TableError(
            f"{path}: made by a newer netadapt (version {version} of the table, this one knows {len(_MIGRATIONS)});"
            " update netadapt or name another file"
        )
    return int(version)


def _retry(action: Callable[[], object]) -> None:
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_ADVICE = {
    sqlite3.SQLITE_NOTADB: "not a table (not an SQLite database); name another file",
    sqlite3.SQLITE_CORRUPT: "damaged; restore it from an export or delete it",
    sqlite3.SQLITE_FULL: "the disk is full; what was stored before is intact",
    sqlite3.SQLITE_READONLY: "read-only; make the file and its folder writable or name another file",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it is a file and that its folder is writable",
    sqlite3.SQLITE_BUSY: f"locked by another process for more than {_BUSY_S:.0f} s",
    sqlite3.SQLITE_IOERR: "input/output error; is the disk full or gone?",
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except (OverflowError, UnicodeError) as error:
        raise TableError(f"{path}: a value that SQLite cannot store ({error})") from error
    except sqlite3.Error as error:
        # The low byte is the primary code; the rest says where in SQLite it arose.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        raise TableError(f"{path}: {_ADVICE.get(code, 'cannot be used')} ({error})") from error
