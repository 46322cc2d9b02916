from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import fuzzing
import pytest
from fuzzing import Fuzz, Tally, must_refuse
from mutations import mutated_bytes, mutated_text, mutated_value

from netadapt.errors import DataError


@pytest.fixture
def small(tmp_path: Path) -> Fuzz:
    return Fuzz(is_full=False, folder=tmp_path)


def _refuse(generator: random.Random, folder: Path) -> None:
    raise DataError("damaged")


def test_what_is_refused_and_what_is_accepted_is_counted(small: Fuzz) -> None:
    def read(generator: random.Random, folder: Path) -> None:
        (folder / "file").write_text("content")
        if int(folder.name.removeprefix("case-")) % 2:
            raise DataError("damaged")

    assert small(read, quick=5, full=50) == Tally(accepted=3, refused=2)
    assert list(small.folder.iterdir()) == []


def test_all_cases_are_run_in_full(tmp_path: Path) -> None:
    assert Fuzz(is_full=True, folder=tmp_path)(_refuse, quick=5, full=50) == Tally(accepted=0, refused=50)


def test_an_error_that_is_not_ours_fails_and_keeps_its_input(small: Fuzz) -> None:
    def read(generator: random.Random, folder: Path) -> None:
        (folder / "file").write_text(folder.name)
        if folder.name in ("case-3", "case-4"):
            raise KeyError("status")

    with pytest.raises(pytest.fail.Exception, match=r"(?s)case 3: KeyError: 'status' \(.*case 4: KeyError"):
        small(read, quick=6, full=6)
    assert (small.folder / "failed" / "file").read_text() == "case-3"


def test_a_process_that_ends_or_hangs_fails_and_the_rest_is_run(small: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(generator: random.Random, folder: Path) -> None:
        if folder.name == "case-1":
            os._exit(7)
        if folder.name == "case-2":
            time.sleep(60)
        raise DataError("damaged")

    monkeypatch.setattr(fuzzing, "SECONDS", 0.3)
    with pytest.raises(pytest.fail.Exception, match=r"case 1: its process ended with 7\ncase 2: took over") as caught:
        small(read, quick=4, full=4)
    assert "case 3" not in str(caught.value)


def test_much_memory_fails(small: Fuzz) -> None:
    with pytest.raises(pytest.fail.Exception, match="case 0: MemoryError"):
        small(lambda generator, folder: bytearray(fuzzing.BYTES + 2**28), quick=1, full=1)


def test_nothing_refused_is_a_fault_of_the_test(small: Fuzz) -> None:
    with pytest.raises(AssertionError, match="all of 3 damaged inputs were taken for good"):
        small(lambda generator, folder: None, quick=3, full=3)


def test_a_case_is_the_same_input_every_time(small: Fuzz) -> None:
    def read(generator: random.Random, folder: Path) -> None:
        if generator.random() > 0.3:
            raise DataError("damaged")

    assert small(read, quick=20, full=20) == small(read, quick=20, full=20)


def test_must_refuse_gives_the_message() -> None:
    def read() -> None:
        raise DataError("what is wrong")

    assert must_refuse(read) == "what is wrong"
    for wrong, outcome in ((lambda: None, "accepted"), (lambda: {}["x"], "KeyError"), (lambda: os._exit(1), "ended")):
        with pytest.raises(pytest.fail.Exception, match=outcome):
            must_refuse(wrong)


def test_mutations_change_copies_and_mostly_something() -> None:
    text = 'schema_version = 1\nname = "a"\n\n[limits]\nx = [1, 2]\n'
    value = {"a": [1, 2.5, {"b": "c"}], "d": None}
    before = json.dumps(value)
    for mutate, good in ((mutated_bytes, bytes(100)), (mutated_text, text), (mutated_value, value)):
        results = [mutate(good, random.Random(seed)) for seed in range(200)]
        assert len({repr(result) for result in results}) > 100
        assert sum(result == good for result in results) < 30
    assert json.dumps(value) == before
