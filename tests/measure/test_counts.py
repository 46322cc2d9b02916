from __future__ import annotations

import json

import pytest

from netadapt.errors import MeasurementError
from netadapt.measure.simulator.counts import CacheCounts, Counts

REPORT = {
    "cycles": 400,
    "instructions": 1000,
    "branches": 20,
    "mispredictions": 2,
    "bytes_loaded": 640,
    "bytes_stored": 320,
    "fma_lanes": 200,
    "fp_lanes": 8,
    "caches": [{"hits": 70, "misses": 11}, {"hits": 8, "misses": 3}],
    "dram_lines_read": 3,
    "dram_lines_written": 2,
    "mix": {"integer": 150, "load": 60, "store": 30, "branch": 20, "fp_fma": 50, "fp_other": 5, "simd": 15},
    "unmodelled": {"fmla v.4s v.4s v.4s": 3, "sqrdmlah v.8h v.8h v.8h": 2},
    "several_threads": False,
}


def test_a_report_is_read():
    counts = Counts.from_report(json.dumps(REPORT))
    assert (counts.cycles, counts.dram_lines_written) == (400, 2)
    assert counts.caches == (CacheCounts(70, 11), CacheCounts(8, 3))
    assert counts.mix["fp_fma"] == 50
    assert counts.instructions_per_cycle == 2.5
    assert counts.unmodelled_share == 0.005


def test_shares_of_nothing_are_nothing():
    counts = Counts.from_report(json.dumps({**REPORT, "cycles": 0, "instructions": 0, "unmodelled": {}}))
    assert counts.instructions_per_cycle == counts.unmodelled_share == 0


def test_several_threads_are_refused():
    with pytest.raises(MeasurementError, match="ran on several threads; the simulator models one core"):
        Counts.from_report(json.dumps({**REPORT, "several_threads": True}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "qemu: uncaught target signal 11",
        json.dumps(REPORT)[:-20],
        "[]",
        "{}",
        "null",
        json.dumps({name: value for name, value in REPORT.items() if name != "cycles"}),
        json.dumps({**REPORT, "temperature": 40}),
        json.dumps({**REPORT, "caches": [{"hits": 1}]}),
        json.dumps({**REPORT, "caches": 7}),
    ],
    ids=["empty", "words", "cut", "list", "no-field", "null", "without-cycles", "another-field", "cache", "no-caches"],
)
def test_what_is_not_a_report_is_quoted(text):
    with pytest.raises(MeasurementError, match="the timing plugin left no usable report") as caught:
        Counts.from_report(text)
    assert repr(text[:80]) in str(caught.value)
