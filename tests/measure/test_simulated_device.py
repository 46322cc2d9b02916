"""Simulated devices with real guests: the same digits whatever is around them, and what users see of them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import FLOAT, matmul, model

from netadapt.errors import MeasurementError, UnknownNameError
from netadapt.lut.fill import fill
from netadapt.lut.store import Table
from netadapt.measure.compare import compare_models
from netadapt.measure.device import open_device
from netadapt.measure.measurement import Measurement
from netadapt.measure.platform import NcnnRuntime, load_platform
from netadapt.measure.simulator import device as simulated_device
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.device import SimulatedDevice
from netadapt.measure.simulator.guest import Guest
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.workload import EMPTY_RUN, Workload

PLATFORM = load_platform("sim-cortex-a72")
CONV = Workload("conv", (32,), 48, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")
DEPTHWISE = Workload("conv", (24,), 24, (10, 10), (3, 3), (2, 2), (1, 1), groups=24, bias=True, activation="relu6")
#: Its weights fill L1 eight times.
LINEAR = Workload("linear", (256,), 256, bias=True)
#: Takes a guest several seconds.
LARGE = Workload("conv", (256,), 256, (56, 56), (3, 3), (1, 1), (1, 1), bias=True)
NCNN = {"runtime": NcnnRuntime(name="ncnn")}

pytestmark = [pytest.mark.usefixtures("installation"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def device(installation):
    with SimulatedDevice(PLATFORM) as device:
        yield device


@pytest.fixture(scope="module")
def expected(device):
    """Everything that is counted, as a guest in this process finds it."""
    return [device.workload_counts(workload) for workload in (CONV, LINEAR)]


# ---- The same digits


#: Prints the counts of a guest of the installation below a folder.
PROGRAM = """
import dataclasses, sys
from pathlib import Path
from netadapt.measure.platform import load_platform
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.guest import Guest
from netadapt.measure.simulator.install import Installation
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.workload import Workload

paths, workloads = eval(sys.argv[1]), eval(sys.argv[2])
platform = load_platform("sim-cortex-a72")
runtime = guest_runtime(platform.runtime)
installation = Installation(**{name: Path(path) for name, path in paths.items()}, **eval(sys.argv[3]))
with Guest(installation, load_core(platform.core), runtime.warm_up()) as guest:
    print([guest.measure(runtime.of_workload(workload)) for workload in workloads])
"""


def counted_elsewhere(installation, cwd, prefix=(), **environment):
    """The counts of the same workloads in a process of its own."""
    fields = {field.name: getattr(installation, field.name) for field in dataclasses.fields(installation)}
    paths = {name: str(value) for name, value in fields.items() if isinstance(value, Path)}
    others = {name: value for name, value in fields.items() if not isinstance(value, Path)}
    root = str(Path(simulated_device.__file__).parents[3])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM, repr(paths), repr([CONV, LINEAR]), repr(others)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_from_another_folder_home_and_environment(installation, expected, tmp_path):
    folder = tmp_path / "a folder, with a comma, and a name that is longer than others"
    folder.mkdir()
    surroundings = {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo"}
    clutter = {f"CLUTTER_{number}": "x" * 1000 for number in range(20)}
    assert counted_elsewhere(installation, folder, **surroundings, **clutter) == repr(expected)


def test_on_one_processor(installation, expected, tmp_path):
    if shutil.which("taskset") is None:
        pytest.skip("there is no taskset")
    processor = str(min(os.sched_getaffinity(0)))
    assert counted_elsewhere(installation, tmp_path, ["taskset", "-c", processor]) == repr(expected)


def test_with_another_limit_of_the_stack(installation, expected, tmp_path):
    limited = ["sh", "-c", 'ulimit -s 1024; exec "$@"', "sh"]
    assert counted_elsewhere(installation, tmp_path, limited) == repr(expected)


def test_as_another_user_with_other_limits_and_signals(installation, expected, tmp_path):
    """Files then belong to nobody, process ids are small, and some signals are ignored."""
    namespaces = ["unshare", "--user", "--map-user=12345", "--map-group=12345", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*namespaces, "true"], capture_output=True).returncode:
        namespaces = []
    shell = "ulimit -s unlimited; ulimit -n 128; ulimit -c 0; umask 077; trap '' INT HUP USR1; exec \"$@\""
    assert counted_elsewhere(installation, tmp_path, [*namespaces, "sh", "-c", shell, "sh"]) == repr(expected)


def copy_of(installation, folder):
    """The same installation at another place; links where the file system can."""

    def link(source, target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    folder.mkdir(parents=True)
    shutil.copytree(installation.root, folder / "root", symlinks=True, copy_function=link)
    shutil.copytree(installation.plugin.parent, folder / "plugin")
    return dataclasses.replace(installation, root=folder / "root", plugin=folder / "plugin" / installation.plugin.name)


def test_from_an_installation_at_another_path(installation, expected, tmp_path):
    deep = copy_of(installation, tmp_path / "deep" / ("d" * 100) / ("e" * 100))
    assert counted_elsewhere(deep, tmp_path) == repr(expected)


def test_under_load_and_after_other_measurements(device, expected):
    busy = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(busy) for _ in range(2)]
    try:
        device.workload_counts(DEPTHWISE)
        device._counted.clear()
        assert [device.workload_counts(workload) for workload in (LINEAR, CONV)] == expected[::-1]
    finally:
        for process in others:
            process.kill()
            process.wait()


@pytest.mark.parametrize("changes", [{}, NCNN], ids=["ort", "ncnn"])
def test_the_first_of_a_guest_as_every_later_one(installation, changes):
    core = load_core(PLATFORM.core)
    runtime = guest_runtime(PLATFORM.model_copy(update=changes).runtime)
    conv, linear = runtime.of_workload(CONV), runtime.of_workload(LINEAR)
    with Guest(installation, core, runtime.warm_up()) as guest:
        first = [guest.measure(conv), guest.measure(linear)]
        # Python rewrites what it has run eight times.
        assert [guest.measure(linear) for _ in range(9)] == [first[1]] * 9
        assert guest.measure(conv) == first[0]
    with Guest(installation, core, runtime.warm_up()) as guest:
        assert [guest.measure(linear), guest.measure(conv)] == first[::-1]


def test_after_a_model_that_failed(installation):
    core, runtime = load_core(PLATFORM.core), guest_runtime(PLATFORM.runtime)
    request = runtime.of_workload(CONV)
    node = helper.make_node("Gather", ["x", "row"], ["y"])
    fails = model([node], [("x", FLOAT, (4, 2))], [("y", FLOAT, (1, 2))], [("row", np.array([9], np.int64))])
    with Guest(installation, core, runtime.warm_up()) as guest:
        before = guest.measure(request)
        for _ in range(2):
            with pytest.raises(Exception, match="indices element out of data bounds"):
                guest.measure(runtime.of_model(fails))
            assert guest.measure(request) == before


def test_two_guests_at_once(expected):
    with SimulatedDevice(PLATFORM) as device, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(device.workload_counts, [CONV, LINEAR])) == expected
        assert len(device._idle) == 2


# ---- What users see


def test_a_measurement_says_what_and_where_from(device, installation):
    costs = device.workload_costs(CONV)
    assert list(costs) == ["latency", "energy"]
    latency, energy = costs.values()
    counts = device.workload_counts(CONV)
    assert latency.value == round(counts.cycles * 1000 / device.core.mhz)
    assert (latency.unit, energy.unit) == ("ns", "pJ")
    for cost in costs.values():
        assert (cost.tier, cost.status, cost.samples, cost.mad) == ("simulated", "converged", 1, 0)
        assert cost.value == cost.minimum == cost.median > 0
        source = cost.provenance
        assert (source.platform, source.runtime) == ("sim-cortex-a72", "onnxruntime")
        assert source.runtime_version == installation.versions["onnxruntime"]
        assert source.machine == device.core.title
        assert source.form == "operation"
        assert Measurement.from_json(cost.to_json()) == cost
    assert device.costs(matmul(16))["latency"].provenance.form == "model"


def test_details_of_a_run(device):
    details = json.loads(json.dumps(device.details(matmul(64))))
    assert details["core"] == device.core.name
    assert details["instructions"] == sum(details["mix"].values())
    # 8 x 64 x 64 products, and a few besides.
    assert 8 * 64 * 64 <= details["fma_lanes"] <= 1.1 * 8 * 64 * 64
    assert [set(level) for level in details["caches"]] == [{"hits", "misses"}] * 2
    assert details["unmodelled_share"] <= 0.001
    energy = device.costs(matmul(64))["energy"].value
    assert sum(details["energy_parts_pj"].values()) == pytest.approx(energy, abs=10)


@pytest.mark.parametrize("changes", [{}, NCNN], ids=["ort", "ncnn"])
def test_the_layers_of_a_profile_are_the_whole(changes):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], name="product"), helper.make_node("Relu", ["m"], ["y"])]
    weight = np.ones((256, 256), np.float32)
    two = model(nodes, [("x", FLOAT, (64, 256))], [("y", FLOAT, (64, 256))], [("w", weight)])
    with SimulatedDevice(PLATFORM.model_copy(update=changes)) as device:
        layers, whole = device.profile(two), device.counts(two).cycles
        assert device.profile(two) == layers
    assert sum(layer.cycles for layer in layers) == pytest.approx(whole, rel=0.1)
    assert layers[0].cycles > 10 * layers[-1].cycles > 0
    assert layers[0].latency_ns == layers[0].cycles * 1000 / device.core.mhz
    assert layers[0].op in ("MatMul", "Gemm", "InnerProduct")


def test_a_comparison_has_no_width(device):
    compared = compare_models(device, matmul(64), device, matmul(128))
    assert compared.ratio == compared.low == compared.high > 1.5
    assert (compared.verdict, compared.tier) == ("SLOWER", "simulated")
    assert compared.ratio == device.latency_ns(matmul(128)) / device.latency_ns(matmul(64))


def test_tiers_are_not_compared(device):
    with open_device("ort-local") as local, pytest.raises(MeasurementError, match="are of different tiers"):
        compare_models(device, matmul(16), local, matmul(16))


def test_unknown_metric(device):
    with pytest.raises(UnknownNameError, match="unknown metric of platform sim-cortex-a72 'accuracy'"):
        device.measure(matmul(16), "accuracy")


def test_a_model_is_measured_once(device, monkeypatch):
    counts = device.workload_counts(CONV)
    monkeypatch.setattr(Guest, "measure", lambda *_: pytest.fail("measured again"))
    assert device.workload_counts(CONV) is counts
    # Weights do not matter.
    assert device.counts(matmul(64)) == device.counts(matmul(64))


# ---- Forms without numbers


def core_without(tmp_path, *words):
    """Cortex-A72 with a table of one's own, which lacks the forms that begin with some words."""
    groups = [
        f"[[group]]\nlatency = {form.latency}\nuops = {form.uops}\nforms = [{text!r}]\n"
        for text, form in load_core("cortex-a72").forms.items()
        if not text.startswith(words)
    ]
    (tmp_path / "forms.toml").write_text('source = "a test"\n' + "".join(groups))
    path = tmp_path / "mine.toml"
    path.write_text('extends = "cortex-a72"\nname = "mine"\nforms = "forms.toml"\n')
    return path


def test_forms_that_the_core_lacks_are_named(tmp_path):
    path = core_without(tmp_path, "fmla v.4s ")
    with (
        SimulatedDevice(PLATFORM.model_copy(update={"core": str(path)})) as device,
        pytest.raises(MeasurementError) as caught,
    ):
        device.workload_costs(CONV)
    message = str(caught.value)
    assert "of the executed instructions are of forms that mine has no numbers for (at most 0.1% may be)" in message
    assert "'fmla v.4s v.4s v.s[]'" in message


def test_a_few_are_told_but_not_refused(tmp_path):
    path = core_without(tmp_path, "svc ", "udiv ")
    with SimulatedDevice(PLATFORM.model_copy(update={"core": str(path)})) as device:
        details = device.details(matmul(256))
    assert 0 < details["unmodelled_share"] <= 0.001
    assert set(details["unmodelled"]) <= {"svc #", "udiv x x x", "udiv w w w"}


# ---- Filling a table


def test_a_table_is_filled_by_two_guests(device, tmp_path):
    with Table.open(tmp_path / "table.sqlite") as table:
        report = fill(table, device, [CONV, DEPTHWISE, EMPTY_RUN])
        assert (report.measured, report.repeated, report.contended) == (3, 0, 0)
        for metric in ("latency", "energy"):
            assert table.get(device.fingerprint, CONV, metric).value == device.workload_costs(CONV)[metric].value
