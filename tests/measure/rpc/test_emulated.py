"""Emulated and simulated boards: real processes of QEMU, reached as boards are."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from netadapt.errors import MeasurementError, SetupError
from netadapt.measure.platform import load_platform
from netadapt.measure.rpc import emulated
from netadapt.measure.rpc.emulated import EmulatedBoard, emulated_core, simulation_request
from netadapt.measure.rpc.private_tracker import PrivateTracker
from netadapt.measure.simulator.costs import MOST_UNMODELLED
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.library import ENTRY
from netadapt.measure.tvm.reference import example, require_equal
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytest.importorskip("tvm")
pytest.importorskip("tornado")

EMULATED = load_platform("qemu-aarch64-tvm")
A72 = load_platform("sim-cortex-a72-tvm")
A53 = load_platform("sim-cortex-a53-tvm")
_SAME = {"kernel": (3, 3), "padding": (1, 1)}
WORKLOADS = [
    EMPTY_RUN,
    Workload("conv", (16,), 24, (14, 14), bias=True, activation="relu"),
    Workload("conv", (13,), 7, (5, 5), bias=True),
    Workload("conv", (64,), 128, (7, 7), bias=True, activation="relu6"),
    Workload("conv", (32,), 32, (14, 14), **_SAME, groups=32, bias=True, activation="relu6"),
    Workload("conv", (32,), 32, (14, 14), **_SAME, stride=(2, 2), groups=32, bias=True),
    Workload("conv", (3,), 16, (32, 32), **_SAME, stride=(2, 2), bias=True, activation="relu"),
    Workload("conv", (16,), 16, (10, 10), **_SAME, bias=True),
    Workload("linear", (256,), 100, bias=True),
    Workload("add", (32, 32), 32, (14, 14), activation="relu"),
    Workload("global_avg_pool", (64,), 64, (7, 7)),
    Workload("max_pool", (16,), 16, (14, 14), (3, 3), (2, 2), (1, 1)),
]
#: What a client says whose session is over.
LOST = "kShutdown|closed|reset"

pytestmark = [pytest.mark.usefixtures("installation"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def board(installation):
    with EmulatedBoard(EMULATED) as board:
        yield board


@pytest.fixture(scope="module")
def simulated(installation):
    with EmulatedBoard(A72) as board:
        yield board


@pytest.fixture(scope="module")
def libraries():
    return [compiled(workload) for workload in WORKLOADS]


@pytest.fixture(scope="module")
def expected(simulated, libraries):
    """What the first board counts, in the order of the workloads."""
    return counted(simulated, libraries)


def compiled(workload, platform=A72):
    return compile_model(workload_to_onnx(workload), platform.runtime, interior=True)


@contextlib.contextmanager
def session(board, limit_s=60):
    """A session; it ends when nothing refers to it any more."""
    yield connected(board, limit_s)


def connected(board, limit_s):
    """Connect; a board takes some milliseconds to notice that the session before is over."""
    from tvm import rpc

    host, port = board.address.split(":")
    deadline = time.monotonic() + 10
    while True:
        try:
            return rpc.connect(host, int(port), session_timeout=limit_s)
        except Exception as error:
            if "already have" not in str(error) or time.monotonic() > deadline:
                raise
            # What refers to itself may still refer to the last session.
            gc.collect()
            time.sleep(0.02)


def uploaded(remote, content, folder):
    file = folder / "model.so"
    file.write_bytes(content)
    remote.upload(str(file))
    return file.name


def simulate(board, library, alone=True, limit_s=60):
    """Count what a library does, in a session of its own."""
    request = simulation_request(library, alone)
    return Counts.from_report(simulate_content(board, library.content, request, limit_s))


def simulate_content(board, content, request, limit_s=60):
    with session(board, limit_s) as remote:
        name = uploaded(remote, content, board.folder)
        return remote.get_function("netadapt.simulate")(name, request)


def load(board, content):
    with session(board) as remote:
        remote.load_module(uploaded(remote, content, board.folder))


def described(board):
    with session(board) as remote:
        return json.loads(remote.get_function("netadapt.describe")())


def counted(board, libraries):
    return [simulate(board, library) for library in libraries]


def crashing_library(folder, body):
    """A library whose code runs when it is loaded, on arm64."""
    (folder / "crash.c").write_text(f"__attribute__((constructor)) static void start(void) {{ {body} }}\n")
    target = ["-target", "aarch64-linux-gnu", "-shared", "-nostdlib", "-fno-sanitize=all", "-fPIC"]
    command = [sys.executable, "-m", "ziglang", "cc", *target, "crash.c", "-o", "crash.so"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "crash.so").read_bytes()


@pytest.fixture(scope="module")
def segfaulting(tmp_path_factory):
    return crashing_library(tmp_path_factory.mktemp("crash"), "*(volatile int *)8 = 1;")


@pytest.fixture(scope="module")
def hanging(tmp_path_factory):
    return crashing_library(tmp_path_factory.mktemp("hang"), 'for (;;) __asm__ volatile("");')


def processes_in(folder):
    """Processes whose working folder is this one or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd").removesuffix(" (deleted)").startswith(str(folder)):
                found.append(int(process.name))
    return found


def await_gone(folder, limit_s=10):
    deadline = time.monotonic() + limit_s
    while (processes_in(folder) or folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in(folder) == []
    assert not folder.exists()


# ---- The path of a board


def small_network():
    """Two convolutions, a pool and a linear layer."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c2", "zero", "six"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (10, 8), "b3": (10,)}
    values = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    values |= {"zero": np.float32(0), "six": np.float32(6)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def outputs(remote, library, inputs, folder):
    """Upload, load and run a library, as with any board."""
    import tvm
    from tvm.runtime.vm import VirtualMachine

    device = remote.cpu(0)
    machine = VirtualMachine(remote.load_module(uploaded(remote, library.content, folder)), device)
    arrays = [tensor.to_device(inputs[tensor.name]) for tensor in library.inputs]
    machine.set_input(ENTRY, *(tvm.runtime.tensor(array, device) for array in arrays))
    machine.invoke_stateful(ENTRY)
    result = machine.get_outputs(ENTRY)
    found = result if isinstance(result, (list, tuple)) else [result]
    return [tensor.from_device(one.numpy()) for tensor, one in zip(library.outputs, found, strict=True)]


def test_a_network_gives_what_onnx_runtime_gives(board, tmp_path):
    model = small_network()
    library, right = compile_model(model, EMULATED.runtime), example(model)
    with session(board) as remote:
        found = outputs(remote, library, right.inputs, tmp_path)
    require_equal(found, list(right.outputs.values()), "small")


def test_a_network_on_a_simulated_board_gives_it_too(simulated, tmp_path):
    model = small_network()
    library, right = compile_model(model, A72.runtime), example(model)
    with session(simulated) as remote:
        found = outputs(remote, library, right.inputs, tmp_path)
    require_equal(found, list(right.outputs.values()), "small")


def test_through_a_tracker(tmp_path):
    from tvm import rpc

    model = small_network()
    library, right = compile_model(model, EMULATED.runtime), example(model)
    with PrivateTracker() as tracker, EmulatedBoard(EMULATED, tracker.address, "mine"):
        host, port = tracker.address.split(":")
        remote = rpc.connect_tracker(host, int(port)).request("mine", session_timeout=30)
        found = outputs(remote, library, right.inputs, tmp_path)
        del remote
        gc.collect()
    require_equal(found, list(right.outputs.values()), "small")


def test_what_a_board_says_of_itself(board, simulated, installation):
    for one in (board, simulated):
        told = described(one)
        assert (told["machine"], told["cores"], told["affinity"]) == ("cortex-a72 in QEMU", 1, [0])
        assert told["tvm"] == installation.versions["apache-tvm"]
        assert told["onnxruntime"] == installation.versions["onnxruntime"]


def test_a_board_tells_nothing_of_its_host(board):
    with session(board) as remote:
        state = json.loads(remote.get_function("netadapt.state")())
    mhz = emulated_core(EMULATED).mhz
    assert state == {"celsius": None, "mhz": mhz, "max_mhz": mhz}


def test_an_emulated_board_counts_no_cycles(board):
    with session(board) as remote, pytest.raises(Exception, match=r"netadapt\.simulate"):
        remote.get_function("netadapt.simulate")


# ---- The same digits


def test_the_counts_are_those_of_the_work(expected, libraries, simulated):
    empty, pointwise = expected[0], expected[1]
    assert empty.cycles < 50_000
    # 16 x 24 products for each of 14 x 14 pixels.
    assert pointwise.fma_lanes == pytest.approx(16 * 24 * 14 * 14, rel=0.01)
    assert max(counts.unmodelled_share for counts in expected) <= MOST_UNMODELLED
    # With its weights in the caches it waits less.
    assert simulate(simulated, libraries[8], alone=False).cycles < 0.7 * expected[8].cycles


def test_under_load_and_after_others(simulated, libraries, expected):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert counted(simulated, libraries[3::-1]) == expected[3::-1]
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_from_two_other_boards_at_once_elsewhere_in_other_orders(libraries, expected, tmp_path, monkeypatch):
    elsewhere = tmp_path / "a folder, with a comma, and a name that is longer than others"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    order = [*libraries[5:], *libraries[:5]]
    with EmulatedBoard(A72) as one, EmulatedBoard(A72) as other, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(counted, [one, other], [order, order[::-1]]))
    assert found == [[*expected[5:], *expected[:5]], [*expected[5:], *expected[:5]][::-1]]


def test_whatever_the_traffic_was(simulated, libraries, expected, tmp_path):
    model = small_network()
    library, right = compile_model(model, A72.runtime), example(model)
    with session(simulated) as remote:
        # A session that has worked, and holds the memory of it.
        outputs(remote, library, right.inputs, tmp_path)
        name = uploaded(remote, libraries[1].content, tmp_path)
        request = simulation_request(libraries[1], alone=True)
        simulation = remote.get_function("netadapt.simulate")
        assert [Counts.from_report(simulation(name, request)) for _ in range(2)] == [expected[1]] * 2
        del simulation


def test_on_another_core(libraries):
    with EmulatedBoard(A53) as board:
        library = compiled(WORKLOADS[1], A53)
        first, second = counted(board, [library, library])
        # Compiled for the other core it runs, too.
        other = simulate(board, libraries[1])
    assert first == second
    assert first.cycles != other.cycles


# ---- Libraries that fail


def test_a_library_that_crashes_when_it_is_loaded(simulated, segfaulting, libraries, expected):
    with pytest.raises(Exception, match=LOST):
        load(simulated, segfaulting)
    assert simulated.alive
    assert described(simulated)["previous"] == "SIGSEGV"
    assert simulate(simulated, libraries[1]) == expected[1]


def test_a_library_that_crashes_when_it_is_simulated(simulated, segfaulting, libraries, expected):
    request = simulation_request(libraries[1], alone=True)
    with pytest.raises(Exception, match="the simulated run was ended by SIGSEGV"):
        simulate_content(simulated, segfaulting, request)
    assert simulate(simulated, libraries[1]) == expected[1]


def test_a_file_that_is_no_library(simulated, libraries, expected):
    request = simulation_request(libraries[1], alone=True)
    with pytest.raises(Exception, match=r"the simulated run failed: InternalError: .*library\.so"):
        simulate_content(simulated, b"nothing", request)
    assert simulate(simulated, libraries[1]) == expected[1]


def test_a_library_that_never_returns(simulated, hanging, libraries, expected):
    request = simulation_request(libraries[1], alone=True)
    begin = time.monotonic()
    with pytest.raises(Exception, match=f"RPCSessionTimeoutError|{LOST}"):
        simulate_content(simulated, hanging, request, limit_s=1)
    # What it left in the middle is ended by the next session.
    assert simulate(simulated, libraries[1]) == expected[1]
    assert time.monotonic() - begin < 20


# ---- Boards that end


@pytest.mark.parametrize("platform", [EMULATED, A72], ids=["emulated", "simulated"])
def test_a_closed_board_leaves_nothing(platform, hanging):
    with EmulatedBoard(platform) as board:
        folder, pid = board.folder, board.pid
        assert board.alive
        assert pid in processes_in(folder)
        with ThreadPoolExecutor(1) as pool:
            hung = pool.submit(load, board, hanging)
            await_session(folder)
            board.close()
            assert hung.exception()
    assert not board.alive
    await_gone(folder)


def await_session(folder, limit_s=20):
    """Until a session has the library."""
    deadline = time.monotonic() + limit_s
    while not (folder / "work" / "session" / "model.so").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PARENT = """
import sys, time
from netadapt.measure.platform import load_platform
from netadapt.measure.rpc.emulated import EmulatedBoard

with EmulatedBoard(load_platform(sys.argv[1])) as board:
    print(board.folder, board.address, flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("platform", [EMULATED, A72], ids=["emulated", "simulated"])
def test_a_board_ends_with_the_process_that_started_it(platform):
    root = str(Path(emulated.__file__).parents[3])
    command = [sys.executable, "-c", PARENT, platform.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}) as parent:
        assert parent.stdout
        folder = Path(parent.stdout.readline().split()[0])
        assert processes_in(folder)
        parent.kill()
    await_gone(folder)


def test_a_board_without_its_simulator_ends(libraries):
    with EmulatedBoard(A72) as board:
        children = Path(f"/proc/{board.pid}/task/{board.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        with pytest.raises(Exception, match=f"the process that simulates has ended|{LOST}"):
            simulate(board, libraries[1])
        deadline = time.monotonic() + 10
        while board.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not board.alive


# ---- Boards that do not start


def test_not_set_up(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SetupError, match="not set up; run: netadapt platforms setup qemu-aarch64-tvm"):
        EmulatedBoard(EMULATED)


def test_a_board_that_cannot_start_tells_its_last_words(installation, tmp_path, monkeypatch):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho 'something is missing' >&2\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setattr(emulated, "require", lambda _: dataclasses.replace(installation, qemu=program))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(MeasurementError, match="ended with code 7\n  something is missing"):
        EmulatedBoard(EMULATED)
    assert list(tmp_path.glob("netadapt-guest-*")) == []


def test_a_key_without_a_tracker_is_harmless_and_a_tracker_that_is_down_too():
    with EmulatedBoard(EMULATED, "127.0.0.1:9", "mine") as board:
        assert board.alive
