from __future__ import annotations

import getpass
import socket
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from result_values import COMMIT, DATE, SAMPLES, card, case, edit, host_run, latency, made, run, share

from netadapt.errors import ResultsError
from netadapt.measure.platform import list_platforms, load_platform
from netadapt.results import check as checking
from netadapt.results.check import Finding, check, check_card, check_file
from netadapt.results.figures import faults_of_figure
from netadapt.results.files import to_text, write_run
from netadapt.results.personal import personal_words
from netadapt.results.schema import PlatformCard, ResultFile

lock_of = checking._lock_of


@pytest.fixture(autouse=True)
def lock(monkeypatch):
    """Stands for the checkout's lock file."""
    locked = {"lut_accuracy": {"version": 1, "quick": "d1", "full": "d2", "smoke": "d3"}}
    monkeypatch.setattr(checking, "_lock_of", lambda path: locked)
    return locked


def written(folder: Path, result: ResultFile, beside: PlatformCard | None = None) -> Path:
    return write_run(folder, [result], beside or card(name=result.platform, tier=load_tier(result)))[1]


def load_tier(result: ResultFile) -> str:
    return load_platform(result.platform).tier if result.platform in list_platforms() else result.tier


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.where, finding.what) for finding in findings]


def only(findings: list[Finding]) -> tuple[str, str, str]:
    assert len(findings) == 1, findings
    return told(findings)[0]


def test_good_results_have_no_findings(tmp_path):
    write_run(tmp_path, [run(), host_run(case({"wall": share(1.2, unit="s", better="lower", tolerance=0.5)}))], card())
    runs, findings = check([tmp_path])
    assert len(runs) == 2
    assert findings == []


@pytest.mark.parametrize("name", ["sim-cortex-a72", "sim-cortex-a53-tvm"])
def test_results_of_a_simulated_platform_pass(tmp_path, name):
    figures = {"latency": latency((1e6,) * 3), "accuracy": share(0.93, samples=(0.92, 0.93, 0.94))}
    path = written(tmp_path, run(case(figures), platform=name, requested=name, tier="simulated"))
    assert check([path.parent])[1] == []


@pytest.mark.parametrize(
    ("figure", "complaint"),
    [
        (latency(unit="parsecs"), "unknown unit 'parsecs'"),
        (latency(value=2.0e6), "value 2e+06 is not the median of its samples, 2.01e+06"),
        (latency(low=2.02e6), r"outside its own interval, 2.02e+06 to 2.03e+06"),
        (latency(high=None), "one end of an interval"),
        (latency(low=2.0099e6, high=2.0101e6), "narrower than its samples' spread allows"),
        (latency((0.0, 1e6, 2e6)), "samples that are not positive"),
        (share(-1.0, unit="bytes"), "-1 bytes is negative"),
        (latency(reference_ns=(5e5,)), "has 7 samples and 1 of the reference"),
        (latency(reference_ns=(0.0,) * 7), "costs of the reference that are not positive"),
    ],
)
def test_faults_of_figures(tmp_path, figure, complaint):
    severity, where, what = only(check_file(written(tmp_path, run(case({"latency": figure})))))
    assert (severity, where) == ("error", "lut_accuracy, latency")
    assert complaint in what


@pytest.mark.parametrize("figure", [latency(), latency(SAMPLES[:2]), share(-0.02), share(0.0, unit="ns")])
def test_figures_without_faults(figure):
    assert faults_of_figure(figure, "local") == []


def test_a_simulated_clock_repeats_itself_and_an_emulated_platform_has_none():
    assert "repeats itself exactly" in faults_of_figure(latency(), "simulated")[0]
    assert "has no clock" in faults_of_figure(latency(), "emulated")[0]
    assert faults_of_figure(latency(origin="derived"), "simulated") == []


@pytest.mark.parametrize(
    ("contended", "severity"), [(0, None), (1, "warning"), (2, "error")], ids=["none", "a third", "two thirds"]
)
def test_noisy_figures_are_told_and_too_many_are_an_error(tmp_path, contended, severity):
    figures = {f"f{index}": latency(status="contended" if index < contended else "converged") for index in range(3)}
    figures["accuracy"] = share(0.9)
    findings = check_file(written(tmp_path, run(case(figures))))
    assert [finding.severity for finding in findings] == [severity] * (severity is not None)
    assert all(f"{contended} of 3 figures of clocks are noisy" in finding.what for finding in findings)
    assert ["quieter machine" in finding.what for finding in findings] == [True] * (severity == "error") + [False] * (
        severity == "warning"
    )


def test_what_was_derived_from_noisy_measurements_is_noisy(tmp_path):
    figures = {"error": share(0.02, origin="derived", better="lower", status="contended"), "latency": latency()}
    assert only(check_file(written(tmp_path, run(case(figures)))))[:2] == ("error", "noise")


def test_a_tier_that_is_not_the_platforms_is_an_error(tmp_path):
    path = written(tmp_path, run(tier="device"), card(tier="device"))
    assert told(check_file(path)) == [("error", "tier", "device, but platform ort-local is of tier local")]


def test_a_tier_that_is_not_the_cards_is_an_error(tmp_path):
    path = written(tmp_path, run())
    edit(path.with_name("platform.json"), reseal=True, tier="device")
    assert only(check_file(path)) == ("error", "tier", "local, but device in platform.json")


def test_what_the_host_says_is_of_tier_local(tmp_path):
    name = "sim-cortex-a72"
    right = host_run(platform=name, requested=name)
    assert check_file(written(tmp_path / "right", right)) == []
    wrong = host_run(case({"wall": share(1.0)}), platform=name, requested=name, tier="simulated")
    severity, where, what = only(check_file(written(tmp_path / "wrong", wrong)))
    assert (severity, where) == ("error", "tier")
    assert "the clock of the host" in what


def test_somebodys_own_platform_is_a_warning(tmp_path):
    path = written(tmp_path, run(platform="my-board", requested="my-board", tier="device"))
    severity, where, what = only(check_file(path))
    assert (severity, where) == ("warning", "platform")
    assert "my-board is not known here" in what


def test_a_missing_card_is_an_error_and_a_damaged_one_is_unreadable(tmp_path):
    path = written(tmp_path, run())
    path.with_name("platform.json").unlink()
    assert only(check([path])[1])[:2] == ("error", "platform")
    path.with_name("platform.json").write_text(to_text(card())[:100])
    findings = check([path])[1]
    assert only(findings)[0] == "unreadable"
    assert findings[0].path.name == "platform.json"


def test_a_run_in_the_folder_of_another_platform_is_an_error(tmp_path):
    path = written(tmp_path, run())
    moved = path.parent.rename(tmp_path / "tvm-local")
    severity, where, what = only(check_file(moved / path.name))
    assert (severity, where) == ("error", "platform")
    assert "ort-local lies in folder tvm-local, beside the card of ort-local" in what


def test_a_run_of_the_platform_as_it_was_before_is_a_warning(tmp_path):
    old = written(tmp_path, run())
    written(tmp_path, run(fingerprint="f2"), card(fingerprint="f2"))
    assert only(check_file(old))[:2] == ("warning", "fingerprint")


@pytest.mark.parametrize(
    "name", [f"{DATE}-ba9876543210.json", f"2026-11-21-{COMMIT}.json", f"{DATE}-{COMMIT}.host.json"]
)
def test_a_name_that_does_not_fit_is_an_error(tmp_path, name):
    path = written(tmp_path, run())
    renamed = path.rename(path.with_name(name))
    severity, where, what = only(check_file(renamed))
    assert (severity, where) == ("error", "file")
    assert f"not that of run {DATE}-{COMMIT} read by the clock platform" in what


def test_copies_are_a_warning(tmp_path):
    written(tmp_path, run())
    written(tmp_path, run())
    findings = check([tmp_path])[1]
    assert only(findings) == ("warning", "file", f"is the same as {DATE}-{COMMIT}.json; remove one")
    assert findings[0].path.name == f"{DATE}-{COMMIT}-2.json"


def test_another_layout_is_a_warning(tmp_path):
    path = written(tmp_path, run())
    path.write_text(path.read_text().replace("\n", "\n "))
    assert only(check_file(path))[:2] == ("warning", "file")


@pytest.mark.parametrize(
    ("changes", "severity", "where"),
    [
        ({"made": made("2026-02-30")}, "error", "made.date"),
        ({"made": made(time="25:00:00")}, "error", "made.date"),
        ({"made": made((date.today() + timedelta(days=3)).isoformat())}, "error", "made.date"),
        ({"made": made(commit=f"{COMMIT}+dirty")}, "warning", "made.commit"),
        ({"requested": "rpi4-tvm"}, "warning", "requested"),
        ({"profile": "smoke"}, "error", "profile"),
    ],
)
def test_where_results_come_from(tmp_path, changes, severity, where, lock):
    lock["lut_accuracy"]["smoke"] = "d1"
    assert only(check_file(written(tmp_path, run(**changes))))[:2] == (severity, where)


def test_a_run_needs_cases_and_each_once(tmp_path):
    empty = run().model_copy(update={"cases": ()})
    assert only(check_file(written(tmp_path / "empty", empty))) == ("error", "cases", "there is none")
    assert only(check_file(written(tmp_path / "twice", run(case(), case())))) == (
        "error",
        "lut_accuracy",
        "is there 2 times",
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": "luck"}, "is not a case of this checkout"),
        ({"version": 2}, "has version 2, this checkout has only 1"),
        ({"digest": "dx"}, "has digest dx, this checkout has d1 for the same version"),
    ],
)
def test_cases_that_this_checkout_does_not_have_are_a_warning(tmp_path, changes, complaint):
    severity, _, what = only(check_file(written(tmp_path, run(case(**changes)))))
    assert (severity, what) == ("warning", complaint)


def test_an_earlier_version_of_a_case_is_fine(tmp_path, lock):
    lock["lut_accuracy"]["version"] = 2
    assert check_file(written(tmp_path, run(case(digest="of then")))) == []


def test_the_lock_file_is_that_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(checking.resources, "files", lambda package: tmp_path / "site-packages" / package)
    run_path = tmp_path / "results" / "ort-local" / "run.json"
    assert lock_of(run_path) is None
    path = tmp_path / "bench" / "cases.lock"
    path.parent.mkdir()
    path.write_text('{"lut_accuracy": {"version": 3}}')
    assert lock_of(run_path) == {"lut_accuracy": {"version": 3}}
    other = tmp_path / "site-packages" / "bench" / "cases.lock"
    other.parent.mkdir(parents=True)
    other.write_text("<<<<<<<")
    with pytest.raises(ResultsError, match="restore it from git"):
        lock_of(run_path)


@pytest.mark.parametrize(
    "text",
    [
        "/home/jane/networks/net.onnx",
        "see ~/networks/net.onnx",
        "'/tmp/build-1/net.onnx'",
        "C:\\Users\\Jane\\net.onnx",
        "jane.doe@example.org",
        "192.168.0.17:9090",
        f"{Path.home()}/x/y",
        f"{Path.cwd()}/x",
        "on wopr-7.example.org",
        "wopr-7: 3 cores",
        "by falken",
    ],
)
def test_personal_data_is_found_wherever_it_is(text):
    names = ["wopr-7", "falken", "root"]
    assert personal_words({"a": [{"b": text}]}, names)[0][0] == "a.0.b"
    assert personal_words({"a": {text: 1}}, names)[0][0] == "a"


@pytest.mark.parametrize(
    "text",
    [
        "/features/0/Conv",
        "conv 3x3/2 16->32 at 14x14",
        "mobilenet_v1:0.5@32",
        "AMD EPYC (family 25 model 17)",
        "root mean square",
        "1.27.0",
        "Linux 6.1.0.13",
        "falkens",
        "2026-11-24",
        "img/s/core",
        "https://example.org/home/page",
    ],
)
def test_what_is_not_personal_is_left_alone(text):
    assert personal_words([text], ["wopr-7", "falken", "root", "vm"]) == []


def test_this_machine_and_its_user_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "wopr-7.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "falken")
    result = run(case(data={"note": "made by falken"}), environment={"machine": "wopr-7"})
    findings = check_file(written(tmp_path, result))
    assert [(finding.severity, finding.where) for finding in findings] == [
        ("error", "environment.machine"),
        ("error", "cases.0.data.note"),
    ]


@pytest.mark.parametrize(
    ("definition", "where"),
    [
        ({"rpc": {"server": "board.example.org:9090"}}, "definition.rpc.server"),
        ({"rpc": {"tracker": "board.example.org:9190", "key": "x"}}, "definition.rpc.tracker"),
        ({"runtime": {"tuning": "/home/jane/records.json"}}, "definition.runtime.tuning"),
    ],
)
def test_cards_do_not_say_where_the_boards_are(tmp_path, definition, where):
    path = written(tmp_path, run(), card(definition=definition)).with_name("platform.json")
    assert only(check_card(path))[:2] == ("error", where)


def test_cards_of_all_platforms_without_addresses_are_fine(tmp_path):
    for name in ("ort-local", "sim-cortex-a72", "tvm-local"):
        loaded = load_platform(name)
        path = tmp_path / f"{name}.json"
        path.write_text(to_text(card(name=name, definition=loaded.model_dump(mode="json"))))
        assert check_card(path) == []


def test_one_unreadable_file_does_not_hide_the_others(tmp_path):
    bad = written(tmp_path, run())
    written(tmp_path, run(profile="smoke", made=made("2026-11-19")))
    bad.write_text(bad.read_text()[:500])
    findings = check([tmp_path])[1]
    assert {finding.severity for finding in findings} == {"unreadable", "error", "warning"}
    assert "is truncated" in next(finding.what for finding in findings if finding.severity == "unreadable")


def test_a_folder_without_runs_is_an_error(tmp_path):
    (tmp_path / "benchmarks.json").write_text("{}")
    with pytest.raises(ResultsError, match="there are no runs"):
        check([tmp_path])


def test_the_committed_results_are_free_of_errors():
    results = Path(__file__).parents[2] / "results"
    if not list(results.glob("*/platform.json")):
        pytest.skip("no runs are committed yet")
    assert [finding for finding in check([results])[1] if finding.severity != "warning"] == []


def test_a_long_word_takes_no_longer_than_its_length():
    started = time.perf_counter()
    assert personal_words({"a": "x" * 200_000, "b": "x-" * 100_000 + "@"}, own=()) == []
    assert time.perf_counter() - started < 5
    assert personal_words("see a.b+c@example.org.", own=()) == [("", "a.b+c@example.org.")]
