"""A clock for pytest-benchmark that shows what a device's clock has shown.

pytest-benchmark reads its timer before and after a call. What a phone or a simulated core takes is known by then, so
the call does nothing and the timer replays the latencies: statistics, storage and comparison are pytest-benchmark's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_benchmark.fixture import BenchmarkFixture

from netadapt.errors import CaseError
from netadapt.results.schema import Figure

_SECONDS = {"ns": 1e-9, "s": 1.0}


class ReplayTimer:
    """A timer of which each pair of readings is one latency apart."""

    #: What pytest-benchmark calls it.
    __name__ = "replayed"

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def load(self, seconds: Sequence[float]) -> None:
        """Set the latencies that are shown from now on."""
        # From nought each time: a running clock would lose digits.
        self._readings = iter([reading for latency in seconds for reading in (0.0, latency)])

    def __call__(self) -> float:
        """Read the clock, in seconds."""
        return next(self._readings)


def replay(benchmark: BenchmarkFixture, timer: ReplayTimer, figure: Figure) -> None:
    """Let pytest-benchmark take a figure's samples for rounds.

    Args:
        benchmark: the fixture of the test.
        timer: the one the test is marked with: `pytest.mark.benchmark(timer=...)`.
        figure: a time.

    Raises:
        CaseError: the figure is no time.

    """
    if figure.unit not in _SECONDS:
        raise CaseError(f"the headline of a case must be a time, not in unit {figure.unit!r}")
    samples = figure.samples or (figure.value,)
    timer.load([sample * _SECONDS[figure.unit] for sample in samples])
    benchmark.pedantic(lambda: None, rounds=len(samples))
