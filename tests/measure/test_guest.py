"""What goes wrong with guests: each fault has its error, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import FLOAT, matmul, model, relu

from netadapt.errors import MeasurementError, ModelError
from netadapt.lut.fill import fill
from netadapt.lut.store import Table
from netadapt.measure.platform import NcnnRuntime, load_platform
from netadapt.measure.simulator import device as simulated_device
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.device import SimulatedDevice
from netadapt.measure.simulator.guest import Guest, Request
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.workload import EMPTY_RUN, Workload

PLATFORM = load_platform("sim-cortex-a72")
CORE = load_core(PLATFORM.core)
NCNN = PLATFORM.model_copy(update={"runtime": NcnnRuntime(name="ncnn")})
SMALL = Workload("linear", (32,), 32)
#: Takes a guest several seconds.
LARGE = Workload("conv", (256,), 256, (56, 56), (3, 3), (1, 1), (1, 1), bias=True)

pytestmark = [pytest.mark.usefixtures("installation"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def device(installation):
    with SimulatedDevice(PLATFORM) as device:
        yield device


@pytest.fixture
def guests(monkeypatch):
    """The guests that devices start meanwhile."""
    started = []

    class Recorded(Guest):
        def __init__(self, *arguments, **options):
            started.append(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(simulated_device, "Guest", Recorded)
    return started


def end_later(guest, seconds, number=signal.SIGKILL):
    timer = threading.Timer(seconds, lambda: os.killpg(guest.pid, number))
    timer.start()
    return timer


def processes_in(folder):
    """Processes whose working folder is this one or below it; also those that nobody waits for."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve(strict=True).is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def await_none(folder, seconds=10):
    deadline = time.monotonic() + seconds
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in(folder) == []


def assert_gone(guest):
    assert not guest.folder.exists()
    assert not guest.alive
    assert processes_in(guest.folder) == []


# ---- Guests that end or hang


def test_a_killed_guest_is_replaced_and_gives_the_same(guests):
    with SimulatedDevice(PLATFORM) as device:
        before = device.workload_counts(SMALL)
        end_later(guests[0], 0.7)
        with pytest.raises(MeasurementError, match=f"the guest for {CORE.name} was ended by SIGKILL"):
            device.workload_costs(LARGE)
        assert_gone(guests[0])
        device._counted.clear()
        assert device.workload_counts(SMALL) == before
        assert len(guests) == 2
    assert_gone(guests[1])


def test_a_guest_killed_while_it_waits_is_replaced(guests):
    with SimulatedDevice(PLATFORM) as device:
        before = device.workload_counts(SMALL)
        os.killpg(guests[0].pid, signal.SIGKILL)
        while guests[0].alive:
            time.sleep(0.01)
        device._counted.clear()
        assert device.workload_counts(SMALL) == before
        assert_gone(guests[0])


def test_a_run_that_crashes_leaves_the_guest_usable(device, guests):
    with SimulatedDevice(PLATFORM) as device:
        before = device.workload_counts(SMALL)
        (guest,) = guests

        def end_the_fork():
            children = Path(f"/proc/{guest.pid}/task/{guest.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGSEGV)

        timer = threading.Timer(0.7, end_the_fork)
        timer.start()
        with pytest.raises(MeasurementError, match=rf"conv 256->256 .*: the simulated run on {CORE.name} was ended by"):
            device.workload_costs(LARGE)
        assert guest.alive
        device._counted.clear()
        assert device.workload_counts(SMALL) == before
        assert len(guests) == 1


def test_a_hanging_run_is_stopped(guests):
    with SimulatedDevice(PLATFORM, patience_s=0.5) as device:
        begin = time.monotonic()
        with pytest.raises(
            MeasurementError, match=rf"conv .* on {CORE.name} did not end within 0\.5 s and was stopped"
        ):
            device.workload_costs(LARGE)
        assert time.monotonic() - begin < 60
        assert_gone(guests[0])


def test_the_table_keeps_what_was_measured_before_a_guest_died(guests, tmp_path):
    with SimulatedDevice(PLATFORM) as device, Table.open(tmp_path / "table.sqlite") as table:
        device.capacity = 1
        fill(table, device, [SMALL])
        end_later(guests[0], 0.7)
        with pytest.raises(MeasurementError, match="was ended by SIGKILL"):
            fill(table, device, [LARGE])
        assert table.get(device.fingerprint, LARGE) is None
        assert table.get(device.fingerprint, SMALL).value == device.workload_costs(SMALL)["latency"].value
        assert fill(table, device, [SMALL, EMPTY_RUN]).measured == 1


# ---- Guests that do not start


def broken(installation, tmp_path, **parts):
    def path(name, content):
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o755)
        return file

    return dataclasses.replace(installation, **{name: path(name, content) for name, content in parts.items()})


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        (
            {"qemu": b"#!/bin/sh\necho 'something is missing' >&2\nexit 7\n"},
            "ended with code 7\n  something is missing",
        ),
        ({"qemu": b"#!/bin/sh\nkill -ILL $$\n"}, "was ended by SIGILL"),
        ({"plugin": b"not a library"}, "Could not load plugin"),
        ({"capstone_library": b"not a library"}, "apstone"),
    ],
    ids=["qemu", "qemu-signal", "plugin", "capstone"],
)
def test_a_guest_that_cannot_start_tells_its_last_words(installation, tmp_path, monkeypatch, parts, complaint):
    monkeypatch.setattr(simulated_device, "require", lambda _: broken(installation, tmp_path, **parts))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with SimulatedDevice(PLATFORM) as device, pytest.raises(MeasurementError) as caught:
        device.workload_costs(SMALL)
    assert str(caught.value).startswith(f"the guest for {CORE.name} ")
    assert complaint in str(caught.value)
    assert list(tmp_path.glob("netadapt-guest-*")) == []


def test_an_absent_qemu(installation, tmp_path, monkeypatch):
    absent = dataclasses.replace(installation, qemu=tmp_path / "absent")
    monkeypatch.setattr(simulated_device, "require", lambda _: absent)
    with SimulatedDevice(PLATFORM) as device, pytest.raises(MeasurementError, match=r"absent.*No such file"):
        device.workload_costs(SMALL)


def test_a_temporary_folder_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with (
        SimulatedDevice(PLATFORM) as device,
        pytest.raises(MeasurementError, match=r"cannot make a folder for a guest.*No such file"),
    ):
        device.workload_costs(SMALL)


# ---- Models that cannot be run


def unknown_operator():
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    return model([node], [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 4))], domains=["com.example"])


def determinants():
    """ONNX Runtime has it, ncnn has not."""
    return model([helper.make_node("Det", ["x"], ["y"])], [("x", FLOAT, (2, 2))], [("y", FLOAT, ())])


def type_without_a_kernel():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.BFLOAT16),
        helper.make_node("Conv", ["h", "w"], ["c"], name="half"),
        helper.make_node("Cast", ["c"], ["y"], to=FLOAT),
    ]
    shape = (1, 1, 1, 1)
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, shape, [1.0])
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, shape)],
        [weight],
    )
    imports = [helper.make_opsetid("", 22)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def test_an_operator_that_the_runtime_does_not_know(device):
    with pytest.raises(MeasurementError, match=rf"cannot be run on {CORE.name}.*com.example:Frobnicate"):
        device.costs(unknown_operator())


def test_a_type_without_a_kernel(device):
    with pytest.raises(MeasurementError, match=rf"cannot be run on {CORE.name}.*an implementation for Conv"):
        device.costs(type_without_a_kernel())


@pytest.mark.parametrize("length", ["batch", None])
def test_dynamic_shapes(device, length):
    with pytest.raises(ModelError, match=r"input 'x' has the dynamic shape .*export it with a fixed shape"):
        device.costs(relu((length, 4)))


def test_inputs_of_a_type_that_cannot_be_filled(device):
    kind = TensorProto.FLOAT16
    half = model([helper.make_node("Relu", ["x"], ["y"])], [("x", kind, (4,))], [("y", kind, (4,))])
    with pytest.raises(ModelError, match="input 'x' has type FLOAT16, which cannot be filled; use one of: FLOAT,"):
        device.costs(half)


@pytest.mark.parametrize("content", [b"", b"not a model", relu()[:40]], ids=["empty", "text", "truncated"])
def test_files_that_are_not_models(device, tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx: not a model"):
        device.costs(path)


def test_absent_file(device, tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx: there is no such file"):
        device.costs(tmp_path / "absent.onnx")


def test_a_model_that_fails_when_it_runs(device, tmp_path):
    node = helper.make_node("Gather", ["x", "row"], ["y"])
    gather = model([node], [("x", FLOAT, (4, 2))], [("y", FLOAT, (1, 2))], [("row", np.array([9], np.int64))])
    path = tmp_path / "gather.onnx"
    path.write_bytes(gather)
    with pytest.raises(ModelError, match=rf"gather\.onnx: cannot be run on {CORE.name}.*indices element out of"):
        device.costs(path)


def test_a_model_that_needs_more_memory_than_there_is(device):
    shape = (1 << 20, 1 << 20)
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    huge = model([node], [("x", FLOAT, (1, 1))], [("y", FLOAT, shape)], [("shape", np.array(shape))])
    with pytest.raises(ModelError, match="MemoryError"):
        device.costs(huge)


def test_the_device_still_works_after_all_these(device):
    assert device.costs(matmul(16))["latency"].value > 0


def test_what_ncnn_lacks(installation):
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    runtime = guest_runtime(NCNN.runtime)
    with SimulatedDevice(NCNN) as device:
        for content, name in ((determinants(), "Det"), (unknown_operator(), r"com\.example\.Frobnicate")):
            with pytest.raises(MeasurementError, match=f"ncnn lacks operators of the model: {name}"):
                device.costs(content)
        with pytest.raises(MeasurementError, match="batch 2; ncnn runs one image at a time"):
            device.workload_costs(Workload("linear", (8,), 8, batch=2))
    with Guest(installation, CORE, runtime.warm_up()) as guest:
        known = runtime.of_workload(SMALL)
        param = known.files["model.param"].replace(b"InnerProduct", b"OuterProduct")
        unknown = dataclasses.replace(known, files={"model.param": param})
        with pytest.raises(MeasurementError, match=r"linear 32->32 .*ncnn lacks a layer of the network"):
            guest.measure(unknown)
        assert guest.measure(known).cycles > 0


def test_a_request_does_not_tell_the_guest_what_the_model_is_called():
    request = Request("ort_program", {"model.onnx": b""}, name="a name of another length")
    assert request.to_json(profile=False) == dataclasses.replace(request, name="x").to_json(profile=False)


# ---- Nothing is left behind


def test_closing_ends_a_run(installation):
    runtime = guest_runtime(PLATFORM.runtime)
    guest = Guest(installation, CORE, runtime.warm_up())
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(guest.measure, runtime.of_workload(LARGE))
        time.sleep(0.5)
        guest.close()
        with pytest.raises((MeasurementError, ValueError, OSError)):
            measured.result(timeout=20)
    assert_gone(guest)
    guest.close()


PROGRAM = """
import sys
from netadapt.measure.platform import load_platform
from netadapt.measure.simulator.device import SimulatedDevice
from netadapt.network.workload import Workload

with SimulatedDevice(load_platform("sim-cortex-a72")) as device:
    device.workload_costs(Workload("linear", (32,), 32))
    print("ready", flush=True)
    device.workload_costs(eval(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_no_guest_outlives_its_device(tmp_path, number):
    """After SIGKILL nobody can remove the folder, but the guest notices that nobody listens."""
    root = str(Path(simulated_device.__file__).parents[3])
    # The guest first ends its run.
    workload = LARGE if number == signal.SIGINT else Workload("conv", (64,), 128, (28, 28), (3, 3), padding=(1, 1))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, repr(workload)],
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    assert processes_in(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGINT:
        assert errors.decode().strip().endswith("KeyboardInterrupt")
        assert processes_in(tmp_path) == []
        assert list(tmp_path.iterdir()) == []
    await_none(tmp_path, 60)


@pytest.mark.parametrize("module", ["ctypes/__init__", "hmac", "json/decoder", "secrets"])
def test_modules_that_programs_load_are_compiled_in_the_guest(installation, module):
    """QEMU looks for what the guest lacks on the host, whose Python may have compiled the module just now.

    numpy.random loads hmac and secrets: ncnn's cycles changed on the day that root ran the host's Python 3.11.
    """
    folder, _, name = f"usr/lib/python3.11/{module}".rpartition("/")
    assert (installation.folder / "root" / folder / "__pycache__" / f"{name}.cpython-311.pyc").is_file()
