"""No silent cliffs: sizes that no tile divides take about as long for each multiplication as their neighbours.

By the simulated clock, which is the same on every machine.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import prod

import pytest

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from netadapt.measure.device import open_device
from netadapt.network.workload import Workload

pytestmark = pytest.mark.timeout(180)
MOST = 1.5


@pytest.fixture(scope="module")
def ns_each(installation):
    """Measures workloads: time for each multiplication of every one, in ns."""
    with open_device("sim-cortex-a72-tvm") as device, ThreadPoolExecutor(device.capacity) as boards:

        def measure(workloads):
            times_ns = boards.map(lambda workload: device.measure_workload(workload).value, workloads)
            return [time_ns / multiplications(workload) for time_ns, workload in zip(times_ns, workloads, strict=True)]

        yield measure


def multiplications(workload):
    return workload.macs or prod(workload.out_size) * workload.out_channels


def pointwise(outputs):
    return Workload("conv", (64,), outputs, (14, 14))


def depthwise(channels):
    return Workload("conv", (channels,), channels, (14, 14), (3, 3), (1, 1), (1, 1), groups=channels)


def spatial(outputs, rows):
    return Workload("conv", (16,), outputs, (rows, rows), (3, 3), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("even", "others"),
    [
        (pointwise(64), [pointwise(outputs) for outputs in (60, 61, 63, 65, 66, 68)]),
        (depthwise(64), [depthwise(channels) for channels in (60, 61, 63, 65, 68)]),
        (spatial(16, 14), [spatial(16, 13), spatial(16, 17)]),
        (spatial(16, 14), [spatial(outputs, 14) for outputs in (17, 18, 19, 20, 21)]),
    ],
    ids=["pointwise widths", "depthwise widths", "rows of prime length", "outputs of a convolution"],
)
def test_sizes_that_no_tile_divides(ns_each, even, others):
    right, *found = ns_each([even, *others])
    for workload, time_ns in zip(others, found, strict=True):
        assert time_ns <= MOST * right, f"{workload}: {time_ns:.3f} ns each, {even}: {right:.3f} ns"
        # A kernel that leaves work out would be fast.
        assert time_ns >= right / MOST
