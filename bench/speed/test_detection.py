"""Whether a run of the cases on another day finds a true slowdown, and nothing where there is none."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.speed.slowed import slowed
from bench.timing import measure_latency
from netadapt import zoo
from netadapt.measure.device import open_device
from netadapt.network.export import to_onnx
from netadapt.results.schema import Figure
from netadapt.results.verdicts import compare_figure

NETWORKS = ("mobilenet_v1:0.5@32", "mobilenet_v2:0.5@32", "squeezenet:0.5@32")
#: As few as a case takes.
ROUNDS = 7
UNCHANGED, SLOWER = 20, 10
SLOWDOWN = 0.10

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Verdicts:
    """Of each comparison of two measurements, the verdicts on all networks and the ratios."""

    verdicts: list[list[str]]
    ratios: list[float]


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {name: exported(name) for name in NETWORKS}


def exported(name: str) -> bytes:
    resolved = zoo.resolve(name, classes=10, in_channels=1)
    return to_onnx(resolved.module, resolved.example_input)


@pytest.mark.parametrize("busy_cores", [0, 1], ids=["as it is", "one more core busy"])
def test_finds_slowdowns_and_nothing_else(
    benchmark: BenchmarkFixture, models: dict[str, bytes], busy_cores: int
) -> None:
    """Each measurement in a process of its own, one after the other."""

    def measure() -> tuple[Verdicts, Verdicts]:
        with burning(busy_cores):
            even = [independently(models, 0.0) for _ in range(2 * UNCHANGED)]
            slow = [independently(models, SLOWDOWN) for _ in range(SLOWER)]
        pairs = list(zip(even[::2], even[1::2], strict=True))
        return compared(pairs), compared(list(zip(even, slow, strict=False)))

    unchanged, slower = benchmark.pedantic(measure, rounds=1)
    for name, found in (("unchanged", unchanged), ("slower", slower)):
        benchmark.extra_info[f"{name}_ratios"] = [round(ratio, 4) for ratio in found.ratios]
        benchmark.extra_info[f"{name}_comparisons_with_slower"] = sum("SLOWER" in row for row in found.verdicts)
    assert [row for row in unchanged.verdicts if "SLOWER" in row] == []
    assert [row for row in slower.verdicts if set(row) != {"SLOWER"}] == []


def independently(models: dict[str, bytes], slowdown: float) -> dict[str, Figure]:
    with ProcessPoolExecutor(1, SPAWN) as process:
        return process.submit(measured, models, slowdown).result()


def measured(models: dict[str, bytes], slowdown: float) -> dict[str, Figure]:
    with open_device("ort-local") as device, slowed(device, slowdown):
        return measure_latency(device, models, ROUNDS)


def compared(pairs: list[tuple[dict[str, Figure], dict[str, Figure]]]) -> Verdicts:
    found = [[compare_figure(name, a[name], b[name], simulated=False) for name in a] for a, b in pairs]
    ratios = [figure.ratio for row in found for figure in row if figure.ratio is not None]
    return Verdicts([[figure.verdict for figure in row] for row in found], ratios)


@contextmanager
def burning(cores: int) -> Iterator[None]:
    """Keep some cores busy meanwhile."""
    processes = [SPAWN.Process(target=burn, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def burn() -> None:
    while True:
        pass
