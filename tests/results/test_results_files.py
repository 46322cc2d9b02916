from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_values import COMMIT, DATE, SAMPLES, card, case, edit, host_run, latency, made, run

from netadapt.errors import ResultsError
from netadapt.results import files
from netadapt.results.check import check_card, check_file
from netadapt.results.compare import compare_results
from netadapt.results.schema import Figure, ResultFile
from netadapt.results.show import print_comparison

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIGURES = st.builds(
    Figure,
    value=FINITE,
    unit=st.sampled_from(["ns", "pJ", "s", "bytes", "ratio", "share", "count"]),
    better=st.sampled_from(["lower", "higher", "neither"]),
    origin=st.sampled_from(["measured", "predicted", "derived"]),
    low=st.none() | FINITE,
    high=st.none() | FINITE,
    samples=st.lists(FINITE, max_size=9).map(tuple),
    status=st.sampled_from(["converged", "contended"]),
    tolerance=st.floats(0, 1e6),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), FIGURES, max_size=3), st.dictionaries(st.text(), PLAIN, max_size=3))
def test_what_is_read_is_what_was_written_and_gives_the_same_bytes(tmp_path_factory, figures, data):
    folder = tmp_path_factory.mktemp("results")
    written = run(case(figures, data=data))
    _, path = files.write_run(folder, [written], card())
    assert files.read_result(path) == written
    assert files.to_text(files.read_result(path)).encode() == path.read_bytes()


def test_order_of_fields_does_not_change_the_bytes():
    one = case({"a": latency(), "b": latency()}, data={"x": 1, "y": 2})
    other = case({"b": latency(), "a": latency()}, data={"y": 2, "x": 1})
    assert files.to_text(run(one)) == files.to_text(run(other))


def test_samples_and_widths_take_a_line_each(tmp_path):
    widths = {f"layer{index}": index for index in range(40)}
    text = files.to_text(run(case({"latency": latency(SAMPLES * 4)}, data={"networks": [{"widths": widths}]})))
    lines = text.splitlines()
    assert [line for line in lines if '"samples"' in line and line.count("e") > 0 and line.rstrip().endswith("],")]
    assert [line for line in lines if '"layer0": 0' in line and '"layer39": 39' in line]
    assert json.loads(text)["cases"][0]["data"]["networks"] == [{"widths": widths}]


def test_a_run_is_two_files_and_a_card_in_the_platforms_folder(tmp_path):
    paths = files.write_run(tmp_path, [run(), host_run()], card())
    folder = tmp_path / "ort-local"
    names = ["platform.json", f"{DATE}-{COMMIT}.json", f"{DATE}-{COMMIT}.host.json"]
    assert paths == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert files.read_card(paths[0]) == card()
    assert files.read_result(paths[2]).clock == "host"


def test_nothing_is_overwritten_and_both_files_of_a_run_have_one_number(tmp_path):
    files.write_run(tmp_path, [run(), host_run()], card())
    before = {path: path.read_bytes() for path in (tmp_path / "ort-local").glob("2026*")}
    (tmp_path / "ort-local" / f"{DATE}-{COMMIT}-2.host.json").write_text("somebody's")
    _, *third = files.write_run(tmp_path, [run(), host_run()], card())
    assert [path.name for path in third] == [f"{DATE}-{COMMIT}-3.json", f"{DATE}-{COMMIT}-3.host.json"]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (tmp_path / "ort-local" / f"{DATE}-{COMMIT}-2.host.json").read_text() == "somebody's"


def _write(folder: Path) -> None:
    files.write_run(folder, [run(), host_run()], card())


@pytest.mark.timeout(60)
def test_processes_that_write_at_once_get_files_of_their_own(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path,)) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    runs = files.find_results(tmp_path)
    assert len(runs) == 12
    assert all(files.read_result(path).platform == "ort-local" for path in runs)


def test_an_installed_package_names_its_version(tmp_path):
    _, path = files.write_run(tmp_path, [run(made=made(commit=None))], card())
    assert path.name == f"{DATE}-v0.1.json"
    assert files.is_name_of(path.name, files.read_result(path))


def test_a_newer_card_of_the_platform_replaces_the_older(tmp_path):
    files.write_run(tmp_path, [run()], card())
    files.write_run(tmp_path, [run(fingerprint="f2")], card(fingerprint="f2"))
    assert files.read_card(tmp_path / "ort-local" / "platform.json").fingerprint == "f2"


def test_a_card_of_another_tier_is_kept_and_nothing_is_written(tmp_path):
    files.write_run(tmp_path, [run()], card())
    with pytest.raises(ResultsError, match=r"platform\.json: is of tier local, not device"):
        files.write_run(tmp_path, [run(tier="device")], card(tier="device"))
    assert len(files.find_results(tmp_path)) == 1


@pytest.mark.parametrize(
    ("results", "complaint"),
    [
        ([], "no results"),
        ([run(), run()], "one file for each clock"),
        ([run(), host_run(made=made("2026-11-21"))], "different runs"),
        ([run(platform="tvm-local")], "of platform tvm-local, the card is of ort-local"),
    ],
)
def test_what_is_not_one_run_of_the_cards_platform_is_refused(tmp_path, results, complaint):
    with pytest.raises(ResultsError, match=complaint):
        files.write_run(tmp_path, results, card())
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_platform_cannot_lead_out_of_the_folder(tmp_path):
    with pytest.raises(ResultsError, match="not the name of a platform"):
        files.write_run(tmp_path / "results", [run(platform="../else")], card(name="../else"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(ResultsError, match="cannot be written as JSON"):
        files.write_run(tmp_path, [run(case(data={"networks": [value]}))], card())
    assert list(tmp_path.iterdir()) == []


def test_keys_that_are_numbers_are_read_back_as_texts(tmp_path):
    _, path = files.write_run(tmp_path, [run(case(data={"widths": {2: "b", 10: "a"}}))], card())
    assert files.read_result(path).cases[0].data == {"widths": {"2": "b", "10": "a"}}


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(ResultsError, match=r"results: results cannot be written there: .*nothing was changed"):
        files.require_writable(tmp_path / "results")
    with pytest.raises(ResultsError, match="cannot be written there"):
        files.write_run(tmp_path / "results", [run()], card())
    assert (tmp_path / "results").read_text() == "a file where the folder should be"


def test_a_card_that_will_not_fit_is_told_before_the_work(tmp_path):
    files.write_run(tmp_path, [run()], card())
    path = tmp_path / "ort-local" / "platform.json"
    files.require_writable(tmp_path, {"ort-local": "local", "sim-cortex-a72": "simulated"})
    with pytest.raises(ResultsError, match=r"platform\.json: is of tier local, not device"):
        files.require_writable(tmp_path, {"ort-local": "device"})
    path.write_text(path.read_text()[:50])
    with pytest.raises(ResultsError, match=r"platform\.json: is truncated"):
        files.require_writable(tmp_path, {"ort-local": "local"})
    files.require_writable(tmp_path, {"sim-cortex-a72": "simulated"})


def test_the_check_for_write_access_leaves_nothing_behind(tmp_path):
    files.require_writable(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_run_that_cannot_be_finished_leaves_no_half(tmp_path, monkeypatch):
    written = []

    def full_disk(path, content):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(files, "write_atomically", full_disk)
    with pytest.raises(ResultsError, match="No space left on device"):
        files.write_run(tmp_path, [run(), host_run()], card())
    assert written
    assert list((tmp_path / "ort-local").iterdir()) == []


@pytest.fixture
def written(tmp_path) -> Path:
    return files.write_run(tmp_path, [run()], card())[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_told(written, share):
    content = written.read_bytes()
    written.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ResultsError, match=f"{written.name}: is truncated"):
        files.read_result(written)


def test_a_change_by_hand_is_told(written):
    text = written.read_text()
    written.write_text(text.replace("2010000.0", "1010000.0", 1))
    assert written.read_text() != text
    with pytest.raises(ResultsError, match=r"was changed after it was written.*run the cases again"):
        files.read_result(written)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_any_byte_is_taken_for_what_was_written(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("results") / "2026-11-20-abc.json"
    content = bytearray(files.to_text(run()).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    # A blank more or less changes nothing; everything else must be refused.
    with contextlib.suppress(ResultsError):
        assert files.read_result(path) == run()


def test_another_layout_is_no_change_of_content(written):
    content = json.loads(written.read_text())
    written.write_text(json.dumps(content, indent=4).replace("\n", "\r\n"))
    assert files.read_result(written) == run()


def test_a_newer_schema_is_told_whatever_else_it_has(written):
    edit(written, reseal=False, schema_version=2, something="new")
    with pytest.raises(ResultsError, match="has schema_version 2, this netadapt reads up to 1; update netadapt"):
        files.read_result(written)


def test_faults_of_a_sealed_file_are_listed_with_their_fields(written):
    edit(written, reseal=True, tier="guessed", profile=3, extra=1)
    with pytest.raises(ResultsError, match=r"(?s)schema_version 1:.*tier: .*profile: .*extra: "):
        files.read_result(written)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "not a results file"),
        ("{}", "not a results file"),
        ('{"schema_version": 1}', "no seal"),
        ('{"schema_version": true, "seal": ""}', "not a results file"),
        ('{"schema_version": 1, "seal": NaN}', "NaN is not a number"),
        ('{"schema_version": 1,, "seal": ""}', "not JSON"),
        ("[" * 100_000, "cannot be read as JSON|is truncated"),
        ("\x00", "is truncated|not JSON"),
    ],
)
def test_other_files_are_told(tmp_path, text, complaint):
    path = tmp_path / "2026-11-20-abc.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=complaint):
        files.read_result(path)


def test_bytes_that_are_no_text_and_missing_files_are_told(tmp_path):
    path = tmp_path / "2026-11-20-abc.json"
    with pytest.raises(ResultsError, match="No such file"):
        files.read_result(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ResultsError, match="cannot be read as JSON"):
        files.read_result(path)


def test_a_card_is_no_run(written):
    with pytest.raises(ResultsError, match="cases: missing"):
        files.read_result(written.with_name("platform.json"))


def test_runs_are_told_from_other_files_by_their_name(tmp_path):
    _, first, _ = files.write_run(tmp_path, [run(), host_run()], card())
    (tmp_path / "published").mkdir()
    for other in ("benchmarks.json", "lut-accuracy-mobilenet_v1-seed0.json", "demo-summary.json", "2026-notes.txt"):
        (first.parent / other).write_text("{}")
    found = [path.name for path in files.find_results(tmp_path)]
    assert found == [f"{DATE}-{COMMIT}.json", f"{DATE}-{COMMIT}.host.json"]
    assert files.find_results(first.parent) == files.find_results(tmp_path)
    assert files.find_results(first) == [first]
    with pytest.raises(ResultsError, match="no such file or folder"):
        files.find_results(tmp_path / "nowhere")


def _names(tmp_path: Path, results: list[ResultFile]) -> list[str]:
    return [files.write_run(tmp_path, [result], card())[1].name for result in results]


def test_the_newest_run_is_that_of_the_last_day_and_there_the_last_number(tmp_path):
    assert files.newest(tmp_path, "ort-local", "platform", "quick") is None
    later = run(made=made("2026-11-21", "aaa"))
    names = _names(tmp_path, [later] * 11 + [run()])
    assert names[9:] == ["2026-11-21-aaa-10.json", "2026-11-21-aaa-11.json", f"{DATE}-{COMMIT}.json"]
    newest = files.newest(tmp_path, "ort-local", "platform", "quick")
    assert newest is not None
    assert newest.name == "2026-11-21-aaa-11.json"


def test_of_one_day_the_later_run_is_the_newer_whatever_its_commit(tmp_path):
    _names(tmp_path, [run(made=made(commit="fff", time="09:00:00")), run(made=made(commit="000", time="10:00:00"))])
    _names(tmp_path, [run(made=made(commit="eee"))])
    newest = files.newest(tmp_path, "ort-local", "platform", "quick")
    assert newest is not None
    assert newest.name == f"{DATE}-000.json"


def test_the_newest_run_is_of_the_clock_and_profile_asked_for(tmp_path):
    _names(tmp_path, [run(made=made("2026-11-01")), run(profile="full"), host_run(made=made("2026-11-22"))])
    newest = files.newest(tmp_path, "ort-local", "platform", "quick")
    assert newest is not None
    assert newest.name == f"2026-11-01-{COMMIT}.json"
    full = files.newest(tmp_path, "ort-local", "platform", "full")
    assert full is not None
    assert files.read_result(full).profile == "full"
    assert files.newest(tmp_path, "ort-local", "host", "full") is None


def test_a_damaged_file_is_no_missing_baseline(written):
    written.write_text("")
    with pytest.raises(ResultsError, match="truncated"):
        files.newest(written.parent.parent, "ort-local", "platform", "quick")


def test_a_pair_is_of_one_clock_and_profile(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    _, old_quick = files.write_run(old, [run()], card())
    files.write_run(old, [run(made=made("2026-11-21"), profile="full")], card())
    day = made("2026-11-22")
    _, new_quick, new_host = files.write_run(new, [run(made=day), host_run(made=day)], card())
    assert files.pick_pair(old / "ort-local", new / "ort-local") == (old_quick, new_quick)
    assert files.pick_pair(old_quick, new / "ort-local") == (old_quick, new_quick)
    assert files.pick_pair(old / "ort-local", new_quick) == (old_quick, new_quick)
    assert files.pick_pair(old_quick, new_host) == (old_quick, new_host)
    with pytest.raises(ResultsError, match="no run of clock host, profile quick"):
        files.pick_pair(old / "ort-local", new_host)


def test_a_folder_of_several_platforms_does_not_make_a_pair(tmp_path):
    files.write_run(tmp_path, [run()], card())
    files.write_run(tmp_path, [run(platform="tvm-local")], card(name="tvm-local"))
    with pytest.raises(ResultsError, match="several platforms; give one of ort-local, tvm-local"):
        files.pick_pair(tmp_path, tmp_path / "ort-local")


def test_one_folder_twice_is_its_newest_run_and_the_one_before(tmp_path):
    first, second = (files.write_run(tmp_path, [run()], card())[1] for _ in range(2))
    folder = tmp_path / "ort-local"
    assert files.pick_pair(folder, folder) == (first, second)
    second.unlink()
    with pytest.raises(ResultsError, match=f"besides .*{first.name} to compare"):
        files.pick_pair(folder, folder)


def test_half_a_sign_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(files.to_text(run(case(data={"a": "\ud800"}))))
    with pytest.raises(ResultsError, match=r"run\.json: not a results file of netadapt: has a text with half a sign"):
        files.read_result(path)


def test_deep_files_and_what_is_no_file_are_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"a":' * 900 + "1" + "}" * 900)
    with pytest.raises(ResultsError, match="nested more than 32 levels deep"):
        files.read_result(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ResultsError, match="cannot be read: not an ordinary file"):
        files.read_result(path)


def test_names_out_of_a_file_are_shown_as_they_are(tmp_path, capsys):
    path = tmp_path / f"{DATE}-{COMMIT}.json"
    path.write_text(files.to_text(run(case({"[/]\x1b[2J\b": latency()}, id="[red]\x1b"))))
    read = files.read_result(path)
    print_comparison(path, path, compare_results(read, read), as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "[red]" in shown


def test_numbers_that_nothing_counts_are_a_finding_and_not_judged(tmp_path):
    path = tmp_path / f"{DATE}-{COMMIT}.json"
    path.write_text(files.to_text(run(case({"latency": latency((1e300, 5e-324))}))))
    read = files.read_result(path)
    assert any("not of a size between" in finding.what for finding in check_file(path))
    comparison = compare_results(read, read)
    assert comparison.cases[0].figures[0].verdict == "AMBIGUOUS"


def test_a_definition_whose_rpc_is_no_table_is_no_reason_to_stop(tmp_path):
    path = tmp_path / "platform.json"
    path.write_text(files.to_text(card(definition={"rpc": ["server"]})))
    assert check_card(path) == []
