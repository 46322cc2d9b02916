"""How fast TVM's code is with our kernels, and how fast boards fill a table."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from netadapt import zoo
from netadapt.measure.compare import compare_models
from netadapt.measure.device import open_device
from netadapt.measure.platform import Emulated, load_platform
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.simulator.install import installed
from netadapt.network.export import to_onnx
from netadapt.network.workload import EMPTY_RUN, Workload

#: Cycles of our kernels over those of ONNX Runtime, at most.
MOST_CYCLES = {"mobilenet_v1": 0.75, "mobilenet_v2": 0.85}
MOST_LOCAL_TIME = 1.3
LONGEST_WORKLOAD_S = 2.5
LEAST_SPEEDUP_OF_TWO = 1.7
#: Layers as a table of mobilenet_v1@64 has them, of many widths.
LAYERS = [
    layer
    for width in range(64, 232, 8)
    for layer in (
        Workload("conv", (width,), 128, (8, 8), bias=True, activation="relu"),
        Workload("conv", (width,), width, (8, 8), (3, 3), padding=(1, 1), groups=width, bias=True, activation="relu"),
    )
]
POINTWISE = Workload("conv", (512,), 512, (14, 14), bias=True, activation="relu")

simulated = pytest.mark.skipif(installed() is None, reason="run: netadapt platforms setup sim-cortex-a72-tvm")


def exported(name: str) -> bytes:
    resolved = zoo.resolve(name, classes=None, in_channels=None)
    return to_onnx(resolved.module, resolved.example_input)


@simulated
@pytest.mark.parametrize("network", sorted(MOST_CYCLES))
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72"])
def test_cycles_against_onnx_runtime(benchmark: BenchmarkFixture, core: str, network: str) -> None:
    model = exported(network)
    with open_device(f"sim-{core}") as device:
        ours_against = device.costs(model)["latency"].value
    with open_device(f"sim-{core}-tvm") as device:
        ours = benchmark.pedantic(lambda: device.costs(model)["latency"].value, rounds=1)
    benchmark.extra_info |= {"onnxruntime_ns": ours_against, "tvm_ns": ours, "ratio": ours / ours_against}
    assert ours <= MOST_CYCLES[network] * ours_against


@pytest.mark.parametrize("network", sorted(MOST_CYCLES))
def test_time_against_onnx_runtime_here(benchmark: BenchmarkFixture, network: str) -> None:
    model = exported(network)
    with open_device("ort-local") as a, open_device("tvm-local") as b:
        compared = benchmark.pedantic(lambda: compare_models(a, model, b, model), rounds=1)
    # The comparison tells how many times as fast B is.
    benchmark.extra_info |= {"ratio": compared.ratio, "low": compared.low, "high": compared.high}
    assert compared.b_ns <= MOST_LOCAL_TIME * compared.a_ns


@simulated
@pytest.mark.parametrize("workload", [POINTWISE, LAYERS[0], LAYERS[1]], ids=str)
def test_workload_all_in(benchmark: BenchmarkFixture, workload: Workload) -> None:
    """Compile, upload, check and simulate one layer; board and worker are up."""
    with board(1) as device:
        device.workload_costs(EMPTY_RUN)
        begin = time.perf_counter()
        benchmark.pedantic(lambda: device.workload_costs(workload), rounds=1)
        assert time.perf_counter() - begin <= LONGEST_WORKLOAD_S


@simulated
def test_two_boards_against_one(benchmark: BenchmarkFixture) -> None:
    """The same layers on one board and on two, in turn; the median, as the second core may be taken for a while."""
    speedups: list[float] = []
    with board(1) as one, board(2) as two:
        for device, count in ((one, 1), (two, 2)):
            fill(device, count, [Workload("conv", (8 + index,), 8, (4, 4)) for index in range(2 * count)])

        def measure() -> None:
            for first in range(0, len(LAYERS), 14):
                part = LAYERS[first : first + 14]
                alone, together = seconds(partial(fill, one, 1, part)), seconds(partial(fill, two, 2, part))
                speedups.append(alone / together)

        benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["speedups"] = speedups
    assert statistics.median(speedups) >= LEAST_SPEEDUP_OF_TWO


def seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def board(count: int) -> RpcDevice:
    platform = load_platform("sim-cortex-a72-tvm").model_copy(update={"emulated": Emulated(boards=count)})
    return RpcDevice(platform)


def fill(device: RpcDevice, threads: int, workloads: list[Workload]) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(device.workload_costs, workloads))
