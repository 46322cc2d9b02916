"""Damaged results of benchmark cases: edited by hand with and without a seal that fits, checked, listed, compared."""

from __future__ import annotations

import json
import os
import random
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from fuzzing import Fuzz
from mutations import mutated_bytes, mutated_value
from result_values import card, case, latency, run, share

from netadapt.errors import ResultsError
from netadapt.results.check import check, check_card
from netadapt.results.compare import compare_results, judge
from netadapt.results.files import find_results, layout, pick_pair, read_card, read_result, seal, to_text
from netadapt.results.show import print_check, print_comparison, print_runs

_NAME = "2026-11-20-0123456789ab.json"


def _sealed(content: Any) -> str:
    """A text whose seal fits whatever it holds, as far as anything can be sealed."""
    if not isinstance(content, dict):
        return json.dumps(content)
    fields = {name: value for name, value in content.items() if name != "seal"}
    try:
        return layout({**fields, "seal": seal(fields)}) + "\n"
    except ValueError:
        return json.dumps(fields)


def _use(path: Path, good: Path) -> None:
    """All that commands do with a run, their output left out."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        _use_aloud(path, good)


def _use_aloud(path: Path, good: Path) -> None:
    for as_json in (False, True):
        print_check(*check([path.parent]), as_json)
        print_runs(find_results(path.parent), as_json)
    content = read_result(path)
    for a, b in (pick_pair(good, path), pick_pair(path, good)):
        comparison = compare_results(read_result(a), read_result(b))
        judge(comparison, strict=True)
        for as_json in (False, True):
            print_comparison(a, b, comparison, as_json)
    assert content.cases is not None


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "ort-local" / _NAME
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.with_name("platform.json").write_text(to_text(card()))
    return path


def test_runs(fuzz: Fuzz, tmp_path: Path) -> None:
    figures = {"latency": latency(), "accuracy": share(0.9), "count": share(3, unit="count")}
    good = tmp_path / _NAME
    good.write_text(to_text(run(case(figures))))
    fields = json.loads(good.read_text())

    def read(generator: random.Random, folder: Path) -> None:
        if generator.random() < 0.8:
            content = _sealed(mutated_value(fields, generator))
            path = _write(folder, content)
        else:
            path = _write(folder, mutated_bytes(good.read_bytes(), generator))
        _use(path, good)

    fuzz(read, quick=40, full=2000)


def test_figures_that_can_be_read(fuzz: Fuzz, tmp_path: Path) -> None:
    """Only numbers are changed, so that most runs are compared."""
    good = tmp_path / _NAME
    good.write_text(to_text(run(case())))
    numbers = (0, -1, 1, 1e-300, 1e300, -1e300, 5e-324, 1e30, 1e-30, 2e6, 0.5)

    def read(generator: random.Random, folder: Path) -> None:
        content = json.loads(good.read_text())
        figure = content["cases"][0]["figures"]["latency"]
        for name in generator.sample(("value", "low", "high", "tolerance", "samples", "reference_ns"), 2):
            if name in ("samples", "reference_ns"):
                figure[name] = [generator.choice(numbers) for _ in range(generator.choice((0, 1, 2, 3, 7)))]
            else:
                figure[name] = generator.choice(numbers)
        figure["unit"] = generator.choice(("ns", "share", "bytes", "miles", "ratio"))
        figure["better"] = generator.choice(("lower", "higher", "neither"))
        _use(_write(folder, _sealed(content)), good)

    fuzz(read, quick=30, full=2000)


def test_cards(fuzz: Fuzz) -> None:
    good = to_text(card())

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "platform.json"
        if generator.random() < 0.7:
            path.write_text(_sealed(mutated_value(json.loads(good), generator)))
        else:
            path.write_bytes(mutated_bytes(good.encode(), generator))
        if "unreadable" in {finding.severity for finding in check_card(path)}:
            raise ResultsError("a finding")
        read_card(path)

    fuzz(read, quick=100, full=6000)
