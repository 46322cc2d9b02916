"""How fast a filled table predicts."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt import zoo
from netadapt.lut.estimator import Estimator
from netadapt.network.network import analyse

VECTORS = 100_000
LEAST_PER_SECOND = 100_000
LONGEST_QUERY_S = 50e-6


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    """mobilenet_v1@224 at widths in multiples of 16, the costs made up: looking up is what is timed."""
    resolved = zoo.resolve("mobilenet_v1", classes=None, in_channels=None)
    network = analyse("mobilenet_v1", resolved.module, resolved.example_input)
    allowed = {name: group.allowed_widths(16) for name, group in network.groups.items()}
    return Estimator(
        network.plan, allowed, lambda workloads: {workload: 1000 + workload.macs for workload in workloads}
    )


def test_many_width_vectors(benchmark: BenchmarkFixture, estimator: Estimator) -> None:
    generator = np.random.default_rng(0)
    choices = [range(16, width + 1, 16) for width in estimator.plan.original.values()]
    widths = np.stack([generator.choice(np.array(choice), VECTORS) for choice in choices], axis=1)
    estimator.many(widths)
    benchmark(estimator.many, widths)
    assert benchmark.stats
    per_second = VECTORS / benchmark.stats["median"]
    benchmark.extra_info["width_vectors_per_second"] = round(per_second)
    assert per_second >= LEAST_PER_SECOND


def test_one_query(benchmark: BenchmarkFixture, estimator: Estimator) -> None:
    widths = estimator.plan.original
    estimator(widths)
    benchmark(estimator, widths)
    assert benchmark.stats
    assert benchmark.stats["median"] < LONGEST_QUERY_S
