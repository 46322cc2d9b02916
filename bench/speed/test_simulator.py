"""How fast cycles are simulated. What they come to is in tests/measure/test_golden_cycles.py."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt import zoo
from netadapt.lut.calibration import draw_widths
from netadapt.measure.platform import load_platform
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.device import SimulatedDevice
from netadapt.measure.simulator.guest import Guest
from netadapt.measure.simulator.install import installed
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.network import analyse
from netadapt.network.workload import Workload

POINTWISE = Workload("conv", (512,), 512, (14, 14), bias=True, activation="relu")
LONGEST_POINTWISE_S = 1.3
TABLE = 200
LONGEST_TABLE_S = 240

pytestmark = pytest.mark.skipif(installed() is None, reason="run: netadapt platforms setup sim-cortex-a72")


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    with SimulatedDevice(load_platform("sim-cortex-a72")) as opened:
        yield opened


def test_pointwise_workload_all_in(benchmark: BenchmarkFixture, device: SimulatedDevice) -> None:
    """From a workload to its counts, the guest being up: writing the model, loading it, a plain and a timed run."""
    device.workload_counts(Workload("activation", (1,), 1, activation="relu"))

    benchmark.pedantic(lambda: device.workload_counts(POINTWISE), setup=device.forget, rounds=5)
    counts = device.workload_counts(POINTWISE)
    benchmark.extra_info["simulated_cycles"] = counts.cycles
    benchmark.extra_info["simulated_instructions"] = counts.instructions
    assert benchmark.stats
    assert benchmark.stats["median"] <= LONGEST_POINTWISE_S


def test_table_of_mobilenet_v1(benchmark: BenchmarkFixture, device: SimulatedDevice) -> None:
    """200 workloads of random-width networks of mobilenet_v1@224, as a search asks for them, on all cores."""
    resolved = zoo.resolve("mobilenet_v1", classes=None, in_channels=None)
    network = analyse("mobilenet_v1", resolved.module, resolved.example_input)
    allowed = {name: group.allowed_widths(8) for name, group in network.groups.items()}
    generator = random.Random(0)
    drawn: dict[Workload, None] = {}
    while len(drawn) < TABLE:
        drawn |= dict.fromkeys(network.plan.at(draw_widths(allowed, generator)))
    workloads = list(drawn)[:TABLE]

    def fill() -> None:
        with ThreadPoolExecutor(device.capacity) as pool:
            list(pool.map(device.workload_counts, workloads))

    benchmark.pedantic(fill, rounds=1)
    assert benchmark.stats
    benchmark.extra_info["workloads_per_second"] = TABLE / benchmark.stats["median"]
    assert benchmark.stats["median"] <= LONGEST_TABLE_S


@pytest.mark.parametrize("remember", [True, False], ids=["remembering", "anew"])
def test_instructions_per_second(benchmark: BenchmarkFixture, remember: bool) -> None:
    """A whole measurement in one guest, with the plugin's memory of states and without it."""
    runtime = guest_runtime(load_platform("sim-cortex-a72").runtime)
    request = runtime.of_workload(POINTWISE)
    present = installed()
    assert present
    with Guest(present, load_core("cortex-a72-rpi4"), runtime.warm_up(), remember=remember) as guest:
        counts = benchmark.pedantic(guest.measure, args=(request,), rounds=3, warmup_rounds=1)
    assert benchmark.stats
    benchmark.extra_info["simulated_instructions_per_second"] = counts.instructions / benchmark.stats["median"]
