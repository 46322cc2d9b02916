"""Runs the benchmark cases: `pytest --benchmark`, or each once and tiny with `pytest bench`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.replay import replay
from bench.session import BenchRun, Job, headline
from netadapt.errors import NetAdaptError
from netadapt.search.observer import Observer


def test_case(
    job: Job,
    run: BenchRun,
    watch: Callable[[Job], AbstractContextManager[Observer]],
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
) -> None:
    try:
        with watch(job) as observer:
            findings = run.findings(job, observer)
    except NetAdaptError as error:
        pytest.fail(f"{job.id}: {error}", pytrace=False)
    mark = request.node.get_closest_marker("benchmark")
    benchmark.extra_info |= {
        "tier": job.device.platform.tier,
        "version": job.case.version,
        "digest": job.case.digest,
        "fingerprint": job.device.fingerprint,
        "headline": findings.headline,
        "figures": {
            name: {"value": figure.value, "unit": figure.unit, "status": figure.status}
            for name, figure in findings.figures.items()
        },
    }
    # A smoke test shows that a case runs, and its numbers mean nothing.
    benchmark.disabled = benchmark.disabled or run.wanted.profile == "smoke"
    replay(benchmark, mark.kwargs["timer"], headline(findings))
