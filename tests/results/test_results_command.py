from __future__ import annotations

import json
from pathlib import Path

import pytest
from result_values import SAMPLES, card, case, edit, host_run, latency, run, share
from typer.testing import CliRunner, Result

from netadapt.cli import app
from netadapt.results import show
from netadapt.results.files import write_run


def netadapt(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "140"})


def slow(factor: float) -> dict[str, object]:
    samples = tuple(factor * sample for sample in SAMPLES)
    return {"latency": latency(samples), "accuracy": share(0.93)}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two runs: the second has a slower figure, and a case whose version was raised."""
    first = [run(case(slow(1)), case(id="search_cost")), host_run()]
    second = [run(case(slow(1.1)), case(id="search_cost", version=2)), host_run()]
    for results in (first, second):
        write_run(tmp_path, results, card())
    return tmp_path / "ort-local"


def test_compare_tells_a_regression_with_unit_tier_and_reason(folder):
    result = netadapt("results", "compare", folder, folder)
    assert result.exit_code == 1, result.output
    for text in ("tier: local", "2.01 ms", "2.211 ms", "SLOWER", "93.00%", "SAME", "1.100 (1.0"):
        assert text in result.stdout
    assert "SLOWER lut_accuracy, latency: 7 and 7 rounds" in result.stdout
    assert "NOT COMPARABLE search_cost: version 1 in A, 2 in B" in result.stdout
    assert "cases NOT COMPARABLE: 1 of 2" in result.stdout


def test_compare_as_json_says_the_same(folder):
    result = netadapt("results", "compare", folder, folder, "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["regressions"] == [{"case": "lut_accuracy", "figure": "latency"}]
    assert facts["tier"] == "local"
    assert [one["verdict"] for one in facts["cases"]] == ["SLOWER", "NOT COMPARABLE"]
    assert facts["cases"][0]["figures"][0] == {
        "name": "accuracy",
        "unit": "share",
        "a": 0.93,
        "b": 0.93,
        "verdict": "SAME",
        "ratio": 1.0,
        "low": None,
        "high": None,
        "reason": "within the tolerance of 0.005",
    }


def test_compare_the_other_way_round_is_no_regression_unless_strict(folder):
    first, second = sorted(folder.glob("2026*[0-9a-z].json"), key=lambda path: len(path.name))[:2]
    assert netadapt("results", "compare", second, first).exit_code == 0
    assert netadapt("results", "compare", second, first, "--strict").exit_code == 1


def test_compare_what_the_host_says(folder):
    result = netadapt("results", "compare", folder, folder, "--clock", "host")
    assert result.exit_code == 0, result.output
    assert "clock: host" in result.stdout


def test_mixed_tiers_are_refused(folder, tmp_path):
    name = "sim-cortex-a72"
    simulated = run(case({"latency": latency((1e6,) * 3)}), platform=name, requested=name, tier="simulated")
    _, other = write_run(tmp_path, [simulated], card(name=name, tier="simulated"))
    result = netadapt("results", "compare", folder, other)
    assert result.exit_code == 2
    assert "of tier local" in result.stderr
    assert "never compared" in result.stderr


@pytest.mark.parametrize("command", [("check",), ("list",), ("compare", "."), ("compare",)])
def test_a_path_that_is_not_there_is_told(command, tmp_path):
    arguments = [tmp_path / "nowhere"] * (2 if command == ("compare",) else 1)
    result = netadapt("results", *command, *arguments)
    assert result.exit_code == 2
    assert "no such file or folder" in result.stderr
    assert "Traceback" not in result.output


def test_an_unknown_clock_is_told(folder):
    result = netadapt("results", "compare", folder, folder, "--clock", "wrist")
    assert result.exit_code == 2
    assert "unknown clock 'wrist'" in result.stderr


def test_check_of_good_results(folder):
    result = netadapt("results", "check", folder)
    assert result.exit_code == 0, result.output
    assert "4 files checked: 0 unreadable, 0 errors" in result.stdout


def test_check_tells_errors_and_what_cannot_be_read(folder):
    one, *_, last = sorted(folder.glob("2026*.json"))
    edit(one, reseal=True, profile="smoke")
    result = netadapt("results", "check", folder)
    assert result.exit_code == 1
    assert "profile: smoke only shows that cases run" in result.stdout
    edit(last, reseal=False, fingerprint="f3")
    result = netadapt("results", "check", folder, "--json")
    assert result.exit_code == 2
    facts = json.loads(result.stdout)
    assert len(facts["files"]) == 4
    [unreadable] = [finding for finding in facts["findings"] if finding["severity"] == "unreadable"]
    assert unreadable["path"] == str(last)
    assert "changed after it was written" in unreadable["what"]


def test_list_shows_runs_and_what_cannot_be_read(folder):
    next(iter(sorted(folder.glob("2026*.json")))).write_text("{")
    result = netadapt("results", "list", folder.parent)
    assert result.exit_code == 0
    assert result.stdout.count("ort-local") >= 3
    assert "unreadable" in result.stdout
    facts = json.loads(netadapt("results", "list", folder, "--json").stdout)
    assert sum("unreadable" in run for run in facts) == 1
    assert {run["clock"] for run in facts if "clock" in run} == {"platform", "host"}


def test_a_report_lies_in_the_folder_or_beside_the_file(folder, monkeypatch):
    asked = []

    def write_report(source: Path, out: Path) -> Path:
        asked.append((source, out))
        out.write_text("<html></html>")
        return out

    monkeypatch.setattr("netadapt.report.report.write_report", write_report)
    one = next(iter(sorted(folder.glob("2026*.host.json"))))
    for arguments in ([folder], [one], [folder, "--out", folder / "x.html"]):
        assert netadapt("report", *arguments).exit_code == 0
    assert [out for _, out in asked] == [folder / "report.html", one.with_suffix(".html"), folder / "x.html"]


def test_pictures_are_written_beside_the_report(folder, monkeypatch):
    monkeypatch.setattr("netadapt.report.report.write_report", lambda source, out: out)
    monkeypatch.setattr("netadapt.report.report.write_pictures", lambda source, to: [to / "tradeoff.svg"])
    result = netadapt("report", folder, "--pictures", folder / "pictures", "--json")
    assert json.loads(result.stdout) == {
        "report": str(folder / "report.html"),
        "pictures": [str(folder / "pictures" / "tradeoff.svg")],
    }


def test_help_says_what_exit_codes_mean():
    for command in ("check", "compare", "list"):
        assert netadapt("results", command, "--help").exit_code == 0
    assert "exit code 1" in netadapt("results", "compare", "--help").stdout


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.01e6, "ns", "2.01 ms"),
        (3.2e7, "pJ", "32 uJ"),
        (0.9312, "share", "93.12%"),
        (1.6731, "ratio", "1.673"),
        (667.0, "count", "667"),
        (4.2e6, "bytes", "4.2 MB"),
        (12.3456, "s", "12.35 s"),
        (5.0, "other", "5 other"),
    ],
)
def test_every_number_has_its_unit(value, unit, text):
    assert show.quantity(value, unit) == text
