"""The report of benchmark results, from documents written out by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from page_reader import PageReader, typed
from sample_results import (
    card,
    case,
    end_to_end,
    figure,
    found_by_searches,
    host_cases,
    lut_accuracy,
    platform_cases,
    result,
    times_of_searches,
    write_sample,
)

from netadapt.errors import ResultsError
from netadapt.report.amounts import NONE
from netadapt.report.content import Table
from netadapt.report.report import read_page, write_pictures, write_report
from netadapt.results.files import write_run
from netadapt.results.schema import CaseResult

pytestmark = pytest.mark.timeout(120)


def write_cases(root: Path, *cases: CaseResult, **of_file: Any) -> Path:
    write_run(root, [result("sim-cortex-a72", list(cases), **of_file)], card("sim-cortex-a72"))
    return root / "sim-cortex-a72"


def read(source: Path, tmp_path: Path) -> PageReader:
    return PageReader(write_report(source, tmp_path / "report.html"))


def test_every_case_has_its_section_and_every_figure_its_origin(sample: Path, tmp_path: Path) -> None:
    page = read(sample, tmp_path)
    for title in (
        *("Speed-up, end to end", "How well the table predicts", "Proposals of one iteration"),
        *("What each choice is worth", "What a search costs: work of the host", "Whether digits repeat"),
        *("How near the simulator comes to boards", "Proposals of one iteration: work of the host"),
        *("The fast strategy against the paper's", "The fast strategy against the paper's: work of the host"),
    ):
        assert title in page.text
    pictures = read_page(sample).pictures()
    assert [picture.title for picture in pictures] == [
        "Accuracy against latency of all arms",
        "Widths over the iterations",
        "Proposals of each iteration",
        "Time of each layer, before and after",
        "Estimated against measured latency",
    ]
    for picture in pictures:
        assert picture.provenance[1:] == (
            *("tier: simulated", "platform sim-cortex-a72", "ONNX Runtime 1.27.0", "profile full", "case version 1"),
            *("commit 0123abcd4567", "2026-11-24"),
        )
        assert picture.caption.endswith(".")


def test_headlines_have_their_intervals(sample: Path, tmp_path: Path) -> None:
    text = read(sample, tmp_path).text
    assert "1.42x width multipliers of equal or higher test accuracy; 95 % interval 1.31x to 1.55x" in text
    assert "92.75 % -0.37 points against the original's 93.12 %" in text


def test_what_the_host_took_is_never_of_the_platforms_tier(sample: Path) -> None:
    hosts = [
        section for section in read_page(sample).sections[0].sections if section.title.endswith("work of the host")
    ]
    assert len(hosts) == 3
    tiers = {block.origin.tier for section in hosts for block in section.blocks if hasattr(block, "origin")}
    assert tiers == {"local"}


def test_cases_that_are_not_in_the_file_are_not_shown(tmp_path: Path) -> None:
    folder = write_cases(tmp_path / "results", platform_cases()[5])
    page = read(folder, tmp_path)
    assert "All 3 are equal, digit by digit." in page.text
    assert page.tags.count("section") == 2
    assert "figure" not in page.tags
    assert "Speed-up" not in page.text


def test_a_run_by_macs_predicts_no_latency_of_proposals_and_shows_what_it_accepted(tmp_path: Path) -> None:
    data = end_to_end(random.Random(0))
    data["runs"] = [run for run in data["runs"] if run["driver"] == "macs"]
    page = read(write_cases(tmp_path / "results", case("end_to_end_speedup", data)), tmp_path)
    assert "in the run driven by MACs, seed 0" in page.text
    assert "hold-out accuracy of 8 proposals" in page.text


def rows_of(source: Path, section: str, caption: str) -> list[list[str]]:
    """The rows of a table, as one would type them."""
    sections = [section for platform in read_page(source).sections for section in platform.sections]
    (blocks,) = [found.blocks for found in sections if found.title == section]
    (table,) = [block for block in blocks if isinstance(block, Table) and block.caption.startswith(caption)]
    return [[typed(cell if isinstance(cell, str) else cell.text) for cell in row] for row in table.rows]


def test_searches_are_compared_seed_by_seed_and_with_the_authors_code(sample: Path) -> None:
    network = "mobilenet_v1:0.5@32"
    title = "The fast strategy against the paper's: work of the host"
    # (1400/200 + 1600/160) / 2 = 8.5; the authors' code takes 2800 s for what took the paper's way 1400 s.
    assert rows_of(sample, title, "What searches took") == [
        [network, "paper", "1,500", "1400 to 1600", "1.00x", "1,600", "150", "92.20 %", "92.00 to 92.40", "2"],
        [network, "fast", "180", "160 to 200", "8.50x", "280", "150", "92.30 %", "92.10 to 92.50", "2"],
        [
            *(network, "authors' code, from 24 of 150 proposals", "2,800", NONE, "0.50x", NONE, "150"),
            *(NONE, NONE, "1"),
        ],
    ]
    # Of the one seed with which ideas were tried.
    assert rows_of(sample, title, "What each idea of the fast way contributes") == [
        [network, "paper", "1,400", "1.00x", "92.00 %", "+0.00 points", "1"],
        [network, "fast", "200", "7.00x", "92.10 %", "+0.10 points", "1"],
        [network, "fast without groups", "700", "2.00x", "91.90 %", "-0.10 points", "1"],
        [network, "fast without racing", "400", "3.50x", "92.15 %", "+0.15 points", "1"],
    ]


def test_a_search_that_ended_above_its_budget_is_marked(tmp_path: Path) -> None:
    data = found_by_searches()
    data["runs"][2]["budget_met"] = False
    folder = write_cases(tmp_path / "results", case("speedup_vs_exhaustive", data))
    rows = rows_of(folder, "The fast strategy against the paper's", "What each way to search found")
    assert [(row[1], row[5]) for row in rows] == [
        *(("paper", "yes"), ("fast", "1 of 2"), ("fast without groups", "yes"), ("fast without racing", "yes"))
    ]


@pytest.mark.parametrize("part", ["runs", "reference"])
def test_searches_that_cannot_be_compared_are_told(tmp_path: Path, part: str) -> None:
    data = times_of_searches()
    data[part][-1]["network"] = "another"
    folder = write_cases(tmp_path / "results", case("speedup_vs_exhaustive", data), clock="host", tier="local")
    with pytest.raises(ResultsError, match="another was not searched in the paper's way"):
        read_page(folder)


def test_a_difference_between_two_runs_is_marked(tmp_path: Path) -> None:
    digits = [{"what": "cycles", "first": 10, "second": 11}, {"what": "weights", "first": "a", "second": "a"}]
    page = read(write_cases(tmp_path / "results", case("determinism", {"digits": digits})), tmp_path)
    assert "1 of 2 differ." in page.text


def test_a_case_nobody_has_heard_of_is_shown_by_its_figures(tmp_path: Path) -> None:
    unknown = case("thermal_limits", {"anything": 1}, {"slow_down": figure(0.25, "share")})
    page = read(write_cases(tmp_path / "results", unknown), tmp_path)
    assert "slow down 25.00 %" in page.text


def test_figures_that_cannot_be_relied_on_are_named_at_the_top(sample: Path, tmp_path: Path) -> None:
    assert "Not to be relied on: adapted latency of end_to_end_speedup (contended)." in read(sample, tmp_path).text


def test_several_platforms_have_a_section_each_and_share_no_figure(tmp_path: Path) -> None:
    root = tmp_path / "results"
    for platform, tier in (("sim-cortex-a72", "simulated"), ("ort-local", "local")):
        write_sample(root, platform, tier)
    page = read_page(root)
    assert [section.title for section in page.sections] == ["ort-local", "sim-cortex-a72"]
    assert page.headlines == ()
    for section, tier in zip(page.sections, ("local", "simulated"), strict=True):
        assert {picture.origin.platform for picture in section.pictures()} == {section.title}
        assert {picture.origin.tier for picture in section.pictures()} == {tier}
    ids = read(root, tmp_path).ids
    assert len(ids) == len(set(ids))


def test_of_each_case_the_fullest_run_is_shown_then_the_newest(tmp_path: Path) -> None:
    root = tmp_path / "results"

    def accuracy(networks: int) -> CaseResult:
        return case("lut_accuracy", lut_accuracy(random.Random(0), networks))

    digits = case("determinism", {"digits": [{"what": "cycles", "first": 10, "second": 10}]})
    write_cases(root, accuracy(51), profile="full", date="2026-11-01")
    write_cases(root, accuracy(52), profile="full", date="2026-11-02")
    write_cases(root, accuracy(53), digits, profile="quick", date="2026-11-03")
    page = read(root / "sim-cortex-a72", tmp_path)
    assert "52 random networks" in page.text
    assert "51 random" not in page.text
    assert "53 random" not in page.text
    assert "Whether digits repeat" in page.text
    assert "pytest --benchmark --profile full --platform sim-cortex-a72" in page.text
    assert "pytest --benchmark --profile quick --platform sim-cortex-a72" in page.text


def test_a_single_file_is_a_source_too(sample: Path, tmp_path: Path) -> None:
    page = read(sample / "2026-11-24-0123abcd4567.host.json", tmp_path)
    assert "What a search costs: work of the host" in page.text
    assert "Speed-up" not in page.text


def test_a_platform_without_card_is_shown_without(tmp_path: Path) -> None:
    folder = write_cases(tmp_path / "results", platform_cases()[5])
    (folder / "platform.json").unlink()
    assert "There is no platform.json beside these results." in read(folder, tmp_path).text


def test_the_same_results_give_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    first = write_report(sample, tmp_path / "first.html").read_bytes()
    assert first == write_report(sample, tmp_path / "second.html").read_bytes()
    pictures = [write_pictures(sample, tmp_path / name) for name in ("a", "b")]
    assert [path.read_bytes() for path in pictures[0]] == [path.read_bytes() for path in pictures[1]]


def test_names_in_results_are_text_and_nothing_else(tmp_path: Path) -> None:
    nasty = "</desc><script>alert(1)</script>$x_1$"
    data = {**end_to_end(random.Random(0)), "network": nasty}
    data["layers"] = {
        "before": [{"workload": f"conv {nasty}", "latency_ns": 10.0}],
        "after": [{"workload": f"conv {nasty}", "latency_ns": 5.0}],
    }
    page = read(write_cases(tmp_path / "results", case("end_to_end_speedup", data)), tmp_path)
    assert "script" not in page.tags
    assert f"conv {nasty}" in page.text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"arms": [{"arm": "unheard-of"}]}, "arms.0.arm"),
        ({"epochs": None}, "epochs"),
        (
            {"layers": {"before": [], "after": [{"workload": "conv", "latency_ns": 1.0}]}},
            "other layers before than after",
        ),
    ],
)
def test_data_that_is_not_the_cases_is_told_with_its_field(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    folder = write_cases(tmp_path / "results", case("end_to_end_speedup", {**end_to_end(random.Random(0)), **change}))
    with pytest.raises(ResultsError, match=f"data of case end_to_end_speedup .*{fault}"):
        write_report(folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_network_that_took_no_time_is_told(tmp_path: Path) -> None:
    data = lut_accuracy(random.Random(0))
    data["networks"][3]["measured_ns"] = 0
    with pytest.raises(ResultsError, match=r"networks\.3\.measured_ns"):
        read_page(write_cases(tmp_path / "results", case("lut_accuracy", data)))


def test_a_truncated_file_is_told(sample: Path, tmp_path: Path) -> None:
    whole = (sample / "2026-11-24-0123abcd4567.json").read_bytes()
    cut = tmp_path / "2026-11-24-0123abcd4567.json"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match="truncated"):
        write_report(cut, tmp_path / "report.html")


def test_one_platform_of_two_tiers_is_refused(tmp_path: Path) -> None:
    folder = write_cases(tmp_path / "results", platform_cases()[5])
    write_run(
        tmp_path / "other", [result("sim-cortex-a72", host_cases(), tier="local")], card("sim-cortex-a72", "local")
    )
    for path in (tmp_path / "other" / "sim-cortex-a72").glob("2026*"):
        path.rename(folder / f"{path.stem}-2.json")
    with pytest.raises(ResultsError, match="are of tiers local, simulated"):
        read_page(folder)
