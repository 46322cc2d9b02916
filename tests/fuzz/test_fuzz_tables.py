"""Damaged look-up tables: their pages, their rows, and the files that they are exported to."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from fuzzing import Fuzz
from mutations import HOSTILE_VALUES, mutated_bytes, mutated_text, mutated_value
from table_values import PLATFORM, conv, measurement

from netadapt.errors import TableError
from netadapt.lut.store import Table


def _fill(path: Path, entries: int) -> None:
    with Table.open(path) as table:
        for channels in range(1, entries + 1):
            table.put(conv(channels), measurement(channels, date=f"2025-01-{channels % 9}"))
        table.put(conv(1), measurement(5, metric="energy"))
        table.put_network(PLATFORM, "abc", '{"scale":1.0}')
        table._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _use(path: Path) -> None:
    """All that commands do with a table."""
    with Table.open(path) as table:
        for entry in table.entries():
            assert entry.measurement.value >= 0
            str(entry.workload)
        table.get_many(PLATFORM, [conv(channels) for channels in range(1, 30)])
        table.get_network(PLATFORM, "abc")
        table.export_json(path.with_suffix(".json"))
        table.put(conv(99), measurement())
        table.import_json(path.with_suffix(".json"))
        table.distrust(PLATFORM)


def test_pages_of_a_table(fuzz: Fuzz, tmp_path: Path) -> None:
    _fill(tmp_path / "good.sqlite", 60)
    good = (tmp_path / "good.sqlite").read_bytes()

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "table.sqlite"
        path.write_bytes(mutated_bytes(good, generator, most=8))
        _use(path)

    fuzz(read, quick=60, full=4000)


def test_log_of_a_table(fuzz: Fuzz, tmp_path: Path) -> None:
    _fill(tmp_path / "good.sqlite", 20)
    with Table.open(tmp_path / "good.sqlite") as table:
        for channels in range(30, 40):
            table.put(conv(channels), measurement(channels))
        files = {suffix: Path(f"{table.path}{suffix}").read_bytes() for suffix in ("", "-wal")}

    def read(generator: random.Random, folder: Path) -> None:
        damaged = generator.choice(list(files))
        for suffix, content in files.items():
            damage = mutated_bytes(content, generator, most=8) if suffix == damaged else content
            (folder / f"table.sqlite{suffix}").write_bytes(damage)
        _use(folder / "table.sqlite")

    fuzz(read, quick=30, full=2000)


def test_rows_of_a_table(fuzz: Fuzz, tmp_path: Path) -> None:
    _fill(tmp_path / "good.sqlite", 5)
    good = (tmp_path / "good.sqlite").read_bytes()
    columns = {"entry": 16, "provenance": 2, "network": 4}

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "table.sqlite"
        path.write_bytes(good)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            table = generator.choice((*columns, "entry", "entry"))
            names = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            assert len(names) == columns[table]
            name = generator.choice(names)
            value = _edited(connection, table, name, generator)
            try:
                connection.execute(f"UPDATE OR REPLACE {table} SET {name} = ?", (value,))
            except (sqlite3.Error, OverflowError, UnicodeError, TypeError):
                # Of no type that the table has room for.
                raise TableError("cannot be edited so") from None
        _use(path)

    fuzz(read, quick=50, full=6000)


def _edited(connection: sqlite3.Connection, table: str, name: str, generator: random.Random) -> object:
    (old,) = connection.execute(f"SELECT {name} FROM {table}").fetchone()
    if isinstance(old, str) and old.startswith("{") and generator.random() < 0.7:
        return json.dumps(mutated_value(json.loads(old), generator), sort_keys=True, separators=(",", ":"))
    if isinstance(old, str) and generator.random() < 0.3:
        return mutated_text(old, generator).strip()
    if isinstance(old, int | float) and generator.random() < 0.5:
        return generator.choice((-old, old + 1, -1, 0, 2**63 - 1, -(2**63), 0.5, 1e300, float("inf"), float("nan")))
    return generator.choice(HOSTILE_VALUES)


def test_exported_tables(fuzz: Fuzz, tmp_path: Path) -> None:
    _fill(tmp_path / "good.sqlite", 3)
    with Table.open(tmp_path / "good.sqlite") as table:
        table.export_json(tmp_path / "good.json")
    good = (tmp_path / "good.json").read_bytes()

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "export.json"
        if generator.random() < 0.7:
            path.write_text(json.dumps(mutated_value(json.loads(good), generator)), encoding="utf-8")
        else:
            path.write_bytes(mutated_bytes(good, generator))
        with Table.open(folder / "table.sqlite") as table:
            table.import_json(path)
            list(table.entries())

    fuzz(read, quick=50, full=6000)
