from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_values import PLATFORM, conv, measurement

from netadapt.errors import TableError
from netadapt.lut import store
from netadapt.lut.store import Merge, Table
from netadapt.measure.measurement import STATUSES
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.workload import EMPTY_RUN, Workload

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.sqlite"


@pytest.fixture
def table(path):
    with Table.open(path) as table:
        yield table


class TestEntries:
    def test_what_is_put_is_there_for_the_next_one_to_open_it(self, table, path):
        table.put(conv(3), measurement(1234))
        table.close()
        with Table.open(path) as again:
            assert again.get(PLATFORM, conv(3)) == measurement(1234)

    def test_every_part_of_the_key_counts(self, table):
        table.put(conv(3), measurement(1))
        assert table.get(PLATFORM, conv(4)) is None
        assert table.get("0" * 16, conv(3)) is None
        assert table.get(PLATFORM, conv(3), "energy") is None
        table.put(conv(3), measurement(2, protocol_version=PROTOCOL_VERSION + 1))
        assert table.get(PLATFORM, conv(3)) == measurement(1)
        assert len(list(table.entries())) == 1

    def test_metrics_lie_side_by_side(self, table):
        table.put(conv(3), measurement(1))
        table.put(conv(3), measurement(2, metric="energy"))
        assert table.get(PLATFORM, conv(3), "latency").value == 1
        assert table.get(PLATFORM, conv(3), "energy").value == 2

    def test_a_new_measurement_replaces_the_old_one(self, table):
        table.put(conv(3), measurement(1))
        table.put(conv(3), measurement(2))
        assert table.get(PLATFORM, conv(3)).value == 2
        assert len(list(table.entries())) == 1

    def test_many_at_once(self, table):
        for channels in range(1, 2001, 2):
            table.put(conv(channels), measurement(channels))
        found = table.get_many(PLATFORM, [conv(channels) for channels in range(1, 2001)])
        assert {workload.in_channels[0]: value.value for workload, value in found.items()} == {
            channels: channels for channels in range(1, 2001, 2)
        }
        assert table.get_many(PLATFORM, []) == {}

    def test_entries_of_one_platform_or_metric_in_a_stable_order(self, table):
        for channels in (3, 1, 2):
            table.put(conv(channels), measurement(channels))
        table.put(conv(1), measurement(9, metric="energy"))
        table.put(conv(1), measurement(7, fingerprint="0" * 16))
        assert [entry.measurement.value for entry in table.entries(PLATFORM, "latency")] == [1, 2, 3]
        assert [entry.measurement.value for entry in table.entries(metric="energy")] == [9]
        assert [entry.measurement.value for entry in table.entries("0" * 16)] == [7]
        assert len(list(table.entries())) == 5

    @given(
        value=st.integers(0, 2**62),
        width=st.none() | st.floats(0, 10),
        status=st.sampled_from(STATUSES),
        machine=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_nothing_is_lost_or_rounded(self, table, value, width, status, machine):
        put = replace(measurement(machine=machine), value=value, relative_half_width=width, status=status)
        table.put(EMPTY_RUN, put)
        assert table.get(PLATFORM, EMPTY_RUN) == put

    def test_only_whole_numbers_are_stored(self, table):
        with pytest.raises(TableError, match="INTEGER"):
            table.put(conv(3), replace(measurement(), value=1.5))
        assert table.get(PLATFORM, conv(3)) is None


class TestNetworks:
    def test_a_text_for_each_network_platform_and_metric(self, table):
        table.put_network(PLATFORM, "abc", '{"factor":1.02}')
        table.put_network(PLATFORM, "abc", '{"factor":1.5}', "energy")
        assert table.get_network(PLATFORM, "abc") == '{"factor":1.02}'
        assert table.get_network(PLATFORM, "abc", "energy") == '{"factor":1.5}'
        assert table.get_network("0" * 16, "abc") is None
        table.put_network(PLATFORM, "abc", "{}")
        assert table.get_network(PLATFORM, "abc") == "{}"


class TestExchange:
    def fill(self, table, order):
        for channels in order:
            table.put(conv(channels), measurement(channels, date=f"2025-01-0{channels}"))

    def test_equal_tables_give_equal_bytes(self, tmp_path):
        files = []
        for name, order in (("a", [1, 2, 3]), ("b", [3, 1, 2])):
            with Table.open(tmp_path / name) as table:
                self.fill(table, order)
                files.append(tmp_path / f"{name}.json")
                assert table.export_json(files[-1]) == 3
        assert files[0].read_bytes() == files[1].read_bytes()
        json.loads(files[0].read_text(), parse_constant=pytest.fail)
        # One line an entry: what changes shows.
        assert sum(line.startswith('{"clean_fraction"') for line in files[0].read_text().splitlines()) == 3

    def test_there_and_back(self, table, tmp_path):
        self.fill(table, [1, 2, 3])
        table.put(EMPTY_RUN, replace(measurement(), relative_half_width=None))
        table.export_json(tmp_path / "a.json")
        with Table.open(tmp_path / "other") as other:
            assert other.import_json(tmp_path / "a.json") == Merge(added=4, replaced=0, kept=0)
            assert list(other.entries()) == list(table.entries())
            other.export_json(tmp_path / "b.json")
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()

    def test_an_empty_table_can_be_exported(self, table, tmp_path):
        assert table.export_json(tmp_path / "a.json") == 0
        assert table.import_json(tmp_path / "a.json") == Merge(0, 0, 0)

    def test_only_one_platform(self, table, tmp_path):
        table.put(conv(1), measurement(1))
        table.put(conv(1), measurement(2, fingerprint="0" * 16))
        assert table.export_json(tmp_path / "a.json", PLATFORM) == 1

    def test_importing_keeps_what_is_better_or_as_good(self, table, tmp_path):
        for channels, status in ((1, "converged"), (2, "stable-noisy"), (3, "contended")):
            table.put(conv(channels), measurement(100, status=status))
        with Table.open(tmp_path / "other") as other:
            for channels in (1, 2, 3, 4):
                other.put(conv(channels), measurement(200, status="stable-noisy"))
            other.export_json(tmp_path / "a.json")
        assert table.import_json(tmp_path / "a.json") == Merge(added=1, replaced=1, kept=2)
        assert [table.get(PLATFORM, conv(channels)).value for channels in (1, 2, 3, 4)] == [100, 100, 200, 200]
        assert table.import_json(tmp_path / "a.json") == Merge(added=0, replaced=0, kept=4)

    def test_all_faults_of_a_file_at_once_and_nothing_imported(self, table, tmp_path):
        self.fill(table, [1, 2, 3, 4])
        table.export_json(tmp_path / "a.json")
        content = json.loads((tmp_path / "a.json").read_text())
        content["entries"][0]["workload"]["op"] = "sing"
        content["entries"][1]["unit"] = "miles"
        content["entries"][2]["provenance"] = "absent"
        del content["entries"][3]["workload"]["stride"]
        (tmp_path / "a.json").write_text(json.dumps(content))
        with Table.open(tmp_path / "other") as other:
            with pytest.raises(TableError) as caught:
                other.import_json(tmp_path / "a.json")
            assert list(other.entries()) == []
        for place in (
            "entries.0.workload.op",
            "entries.1.unit: metric 'latency' in 'miles'",
            "entries.2.provenance: 'absent'",
            "entries.3.workload: fields missing",
        ):
            assert f"\n  {place}" in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"value": 1.5}, "entries.0.value"),
            ({"value": -1}, "entries.0.value"),
            ({"value": "1"}, "entries.0.value"),
            ({"value": 2**63}, "entries.0.value"),
            ({"value": 10**400}, "entries.0.value"),
            ({"workload": {}}, "entries.0.workload.op"),
            ({"status": "fine"}, "entries.0.status"),
            ({"clean_fraction": 2}, "entries.0.clean_fraction"),
            ({"colour": "red"}, "entries.0.colour"),
        ],
    )
    def test_faults_of_types(self, table, tmp_path, change, place):
        self.fill(table, [1])
        table.export_json(tmp_path / "a.json")
        content = json.loads((tmp_path / "a.json").read_text())
        content["entries"][0].update(change)
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(TableError, match=place):
            table.import_json(tmp_path / "a.json")

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema_version":2}', b"\xff", b"SQLite format 3\0"])
    def test_files_that_are_not_exports(self, table, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(TableError, match=r"a\.json: not a table of schema_version 1"):
            table.import_json(tmp_path / "a.json")

    def test_files_that_are_not_ordinary_or_too_large(self, table, tmp_path):
        os.mkfifo(tmp_path / "a.json")
        with pytest.raises(TableError, match=r"a\.json: cannot be read: not an ordinary file"):
            table.import_json(tmp_path / "a.json")
        with (tmp_path / "b.json").open("wb") as file:
            file.truncate(2**26 + 1)
        with pytest.raises(TableError, match=r"b\.json: cannot be read: larger than 67,108,864 bytes"):
            table.import_json(tmp_path / "b.json")

    def test_absent_file(self, table, tmp_path):
        with pytest.raises(TableError, match=r"absent\.json: cannot be read: No such file"):
            table.import_json(tmp_path / "absent.json")

    def test_a_long_list_of_faults_is_cut(self, table, tmp_path):
        for channels in range(1, 41):
            table.put(conv(channels), measurement(channels))
        table.export_json(tmp_path / "a.json")
        text = (tmp_path / "a.json").read_text().replace('"ns"', '"miles"')
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(TableError, match=r"\.\.\. and 20 more"):
            table.import_json(tmp_path / "a.json")

    def test_a_failed_export_leaves_the_old_file(self, table, tmp_path, monkeypatch):
        (tmp_path / "a.json").write_text("old")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("netadapt.files.os.fsync", full)
        with pytest.raises(TableError, match="No space left on device; the file is as it was"):
            table.export_json(tmp_path / "a.json")
        assert (tmp_path / "a.json").read_text() == "old"
        assert sorted(file.name for file in tmp_path.glob("*a.json*")) == ["a.json"]

    def test_export_makes_its_folder_but_not_inside_a_file(self, table, tmp_path):
        table.export_json(tmp_path / "absent" / "a.json")
        assert (tmp_path / "absent" / "a.json").exists()
        with pytest.raises(TableError, match="cannot be written"):
            table.export_json(tmp_path / "absent" / "a.json" / "b.json")


class TestBadFiles:
    def test_a_newer_table(self, path):
        Table.open(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(TableError, match=r"made by a newer netadapt .version 99.*update netadapt"):
            Table.open(path)

    def test_not_a_database(self, path):
        path.write_text("a shopping list" * 100)
        with pytest.raises(TableError, match=r"table\.sqlite: not a table"):
            Table.open(path)
        assert path.read_text().startswith("a shopping list")

    def test_a_database_of_another_program(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(TableError, match="another program"):
            Table.open(path)
        assert path.read_bytes() == before

    def test_a_truncated_table(self, path):
        with Table.open(path) as table:
            for channels in range(200):
                table.put(conv(channels), measurement())
        path.write_bytes(path.read_bytes()[:20_000])
        with pytest.raises(TableError, match=r"damaged|not a table"), Table.open(path) as table:
            list(table.entries())

    @pytest.mark.parametrize(
        ("statement", "complaint"),
        [
            ("UPDATE entry SET status = 'fine'", "status: Input should be 'converged'"),
            ("UPDATE entry SET value = -1", "value: Input should be greater than or equal to 0"),
            ("UPDATE entry SET workload = ''", "workload: Invalid JSON"),
            ("UPDATE entry SET workload = replace(workload, 'conv', 'sing')", "workload.op"),
            ("UPDATE entry SET workload = replace(workload, '[1,1]', '[0,1]')", r"stride: \[0, 1\] is not 1 to"),
            ("UPDATE entry SET workload = replace(workload, '[4,4]', '[5,4]')", "key: not that of conv 1->8 5x4"),
            ("UPDATE entry SET unit = 'miles'", "metric 'latency' in 'miles'"),
            ("UPDATE entry SET clean_fraction = 1e999", "clean_fraction: Input should be a finite number"),
            ("UPDATE entry SET provenance = 'absent'", "'absent' is not in the table"),
            ("UPDATE provenance SET json = '{}'", "provenance.platform: Field required"),
            ("UPDATE provenance SET json = replace(json, 'ffff', 'eeee')", "key: not that of"),
        ],
    )
    def test_a_row_that_was_edited(self, table, path, statement, complaint):
        table.put(conv(1), measurement())
        table._connection.execute(statement)
        with pytest.raises(TableError, match=rf"table\.sqlite: damaged; restore it.*{complaint}"):
            list(table.entries())

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE VIEW more AS SELECT 1",
            "CREATE TRIGGER eager AFTER INSERT ON entry BEGIN DELETE FROM entry; END",
            "DROP TABLE network",
            "ALTER TABLE entry ADD COLUMN colour TEXT",
        ],
    )
    def test_a_table_that_another_program_changed(self, path, statement):
        Table.open(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(TableError, match="its tables are not those of netadapt"):
            Table.open(path)

    def test_a_version_below_zero(self, path):
        Table.open(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = -1")
        connection.close()
        with pytest.raises(TableError, match="version -1"):
            Table.open(path)

    def test_rows_without_end_are_not_read(self, table, monkeypatch):
        for channels in range(1, 30):
            table.put(conv(channels), measurement())
        monkeypatch.setattr(Table, "_size", lambda _: 1000)
        with pytest.raises(TableError, match="it says more than it can hold"):
            list(table.entries())
        monkeypatch.undo()
        monkeypatch.setattr(store, "_SELECT_LIMIT_S", -1.0)
        monkeypatch.setattr(store, "_SELECT_STEPS", 10)
        with pytest.raises(TableError, match="interrupted"):
            list(table.entries())

    def test_a_pipe_is_not_waited_for(self, path):
        os.mkfifo(path)
        with pytest.raises(TableError, match="cannot be opened; check that it is a file"):
            Table.open(path)

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
    def test_a_number_that_is_too_large(self, table, value):
        with pytest.raises(TableError, match="a value that SQLite cannot store"):
            table.put(conv(1), replace(measurement(), value=value))
        assert list(table.entries()) == []

    def test_a_folder_in_its_place(self, tmp_path):
        with pytest.raises(TableError, match="cannot be opened"):
            Table.open(tmp_path)

    def test_a_file_where_a_folder_should_be(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(TableError, match="its folder cannot be made"):
            Table.open(tmp_path / "file" / "table.sqlite")

    def test_an_empty_file_becomes_a_table(self, path):
        path.touch()
        with Table.open(path) as table:
            table.put(conv(1), measurement())

    def test_full_disk(self, table):
        table.put(conv(1), measurement())
        table._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(TableError, match="the disk is full; what was stored before is intact"):
            put_all(table, range(2, 1000))
        assert table.get(PLATFORM, conv(1)) == measurement()
        table._connection.execute("PRAGMA max_page_count = 100000")
        table.put(conv(2000), measurement())

    def test_read_only(self, table):
        table._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(TableError, match="read-only; make the file and its folder writable"):
            table.put(conv(1), measurement())

    def test_default_path_is_in_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(store.platformdirs, "user_cache_path", lambda name: tmp_path / name)
        with Table.open() as table:
            assert table.path == tmp_path / "netadapt" / "table.sqlite"


def put_all(table, widths):
    for channels in widths:
        table.put(conv(channels), measurement(channels))


def put_range(path, first, last):
    with Table.open(path) as table:
        put_all(table, range(first, last))


def test_several_processes_make_and_fill_one_table(path):
    workers = [SPAWN.Process(target=put_range, args=(path, start, start + 60)) for start in (1, 31, 61, 91)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    with Table.open(path) as table:
        found = {entry.workload: entry.measurement.value for entry in table.entries()}
    assert found == {conv(channels): channels for channels in range(1, 151)}


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from netadapt.lut.store import Table
from table_values import conv, measurement
with Table.open(Path(sys.argv[1])) as table:
    for channels in range(1, 1_000_000):
        table.put(conv(channels), measurement(channels))
        print(channels, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 60])
def test_a_kill_loses_nothing_that_was_stored(path, after):
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(after):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        told = [int(line) for line in writer.stdout if line.endswith("\n")]
    last = told[-1] if told else after
    with Table.open(path) as table:
        assert table._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = {entry.workload.in_channels[0]: entry.measurement for entry in table.entries()}
        # The one in flight may have been stored without having been told of.
        assert set(stored) in (set(range(1, last + 1)), set(range(1, last + 2)))
        assert all(value == measurement(channels) for channels, value in stored.items())
        table.put(Workload("linear", (1,), 1), measurement())
