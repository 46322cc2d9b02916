"""Simulated costs are the same to the last digit everywhere; the file beside this one has them.

A third of them is measured; with NETADAPT_GOLDEN=all in the environment, all.
"""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netadapt.measure.platform import NcnnRuntime, load_platform
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.simulator.device import SimulatedDevice, identity
from netadapt.measure.tvm.compile import identity as compiler_identity
from netadapt.network.workload import Workload

FILE = Path(__file__).parent / "golden_cycles.json"
GOLDEN = json.loads(FILE.read_text())
CHANGED = "if it is meant, run: python tools/golden_cycles.py"


@pytest.fixture
def same_guest(installation):
    """Skips where Debian has updated the guest's packages since the file was made."""
    differing = [
        f"{name} {installation.versions.get(name)} instead of {version}"
        for name, version in GOLDEN["made_with"]["guest"].items()
        if installation.versions.get(name) != version
    ]
    if differing:
        pytest.skip(f"the guest has {', '.join(differing)}, and so other cycles than {FILE.name}; {CHANGED}")


def changed_sources():
    """Our own parts that are not as they were when the file was made."""
    recorded = GOLDEN["made_with"]["sources"]
    now = {name: identity(load_platform(name))["core"] for name in recorded if name.startswith("sim-")}
    now |= {name: identity(load_platform("sim-cortex-a72"))[name] for name in ("plugin", "scripts")}
    now |= {"boards' scripts": identity(load_platform("sim-cortex-a72-tvm"))["scripts"]}
    now |= {"schedules": compiler_identity("llvm")["schedules"]}
    return [name for name, digest in now.items() if digest != recorded[name]]


def opened(platform, runtime):
    definition = load_platform(platform)
    if runtime == "tvm":
        pytest.importorskip("tvm")
        return RpcDevice(definition)
    return SimulatedDevice(
        definition.model_copy(update={"runtime": NcnnRuntime(name="ncnn")}) if runtime == "ncnn" else definition
    )


def measured(device, guests, names):
    workloads = {name: Workload.from_json(json.dumps(GOLDEN["workloads"][name])) for name in names}
    with ThreadPoolExecutor(guests) as pool:
        costs = list(pool.map(lambda workload: cost(device, workload), workloads.values()))
    return dict(zip(workloads, costs, strict=True))


def cost(device, workload):
    """Cycles, instructions and energy."""
    energy = device.workload_costs(workload)["energy"].value
    if isinstance(device, RpcDevice):
        counts = device.workload_details(workload)
        return counts["cycles"], counts["instructions"], energy
    counts = device.workload_counts(workload)
    return counts.cycles, counts.instructions, energy


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("platform", "runtime", "guests"),
    [
        ("sim-cortex-a53", "ort", 2),
        ("sim-cortex-a55", "ort", 1),
        ("sim-cortex-a72", "ort", 2),
        ("sim-cortex-a76", "ort", 1),
        ("sim-cortex-a72", "ncnn", 2),
        ("sim-cortex-a53-tvm", "tvm", 1),
        ("sim-cortex-a72-tvm", "tvm", 2),
    ],
)
@pytest.mark.usefixtures("same_guest")
def test_costs_are_the_recorded_ones(platform, runtime, guests):
    recorded = {
        entry["workload"]: (entry["cycles"], entry["instructions"], entry["energy_pj"])
        for entry in GOLDEN["entries"]
        if (entry["platform"], entry["runtime"]) == (platform, runtime)
    }
    names = sorted(recorded)
    # Not in the order in which they were recorded; another one, and other ones, on each core.
    random.Random(f"{platform} {runtime}").shuffle(names)
    if os.environ.get("NETADAPT_GOLDEN") != "all":
        del names[len(names) // 3 :]
    with opened(platform, runtime) as device:
        now = measured(device, guests, names)
    differing = {name: (now[name], recorded[name]) for name in names if now[name] != recorded[name]}
    assert not differing, (
        f"(cycles, instructions, pJ) now and recorded; changed since: "
        f"{', '.join(changed_sources()) or 'none of our own parts'}; {CHANGED}"
    )


def test_the_file_covers_what_it_should():
    names = {entry["workload"] for entry in GOLDEN["entries"] if entry["runtime"] == "ort"}
    assert names == set(GOLDEN["workloads"])
    assert len(names) >= 24
    platforms = ("sim-cortex-a53", "sim-cortex-a55", "sim-cortex-a72", "sim-cortex-a76")
    keys = [(entry["platform"], entry["runtime"], entry["workload"]) for entry in GOLDEN["entries"]]
    assert len(keys) == len(set(keys))
    assert {(platform, "ort", name) for platform in platforms for name in names} <= set(keys)
    for other in ("ncnn", "tvm"):
        assert sum(runtime == other for _, runtime, _ in keys) >= 6
