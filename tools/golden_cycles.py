"""Regenerate `tests/measure/golden_cycles.json`: what operations cost on the simulated cores, to the last digit.

    python tools/golden_cycles.py [--guests 2]

Run it after a change that is meant to move cycles: of a core file, the timing plugin, the guest's scripts, a pinned
version, or the schedules for TVM. The difference of the file then shows what the change did. Needs
`netadapt platforms setup sim-cortex-a72`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from netadapt.errors import NetAdaptError
from netadapt.files import write_atomically
from netadapt.measure.platform import NcnnRuntime, load_platform
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.simulator.device import SimulatedDevice, identity
from netadapt.measure.simulator.install import Installation, require
from netadapt.measure.tvm.compile import identity as schedules
from netadapt.network.workload import EMPTY_RUN, Workload

FILE = Path(__file__).resolve().parent.parent / "tests" / "measure" / "golden_cycles.json"
PLATFORMS = ("sim-cortex-a53", "sim-cortex-a55", "sim-cortex-a72", "sim-cortex-a76")
NCNN_PLATFORM = "sim-cortex-a72"
TVM_PLATFORMS = ("sim-cortex-a53-tvm", "sim-cortex-a72-tvm")
#: Of an installation, what does not run in the guest.
HOST_PARTS = ("capstone", "compiler", "plugin", "qemu")

_MAP = (14, 14)
_SAME = {"kernel": (3, 3), "padding": (1, 1)}
_HALF = {**_SAME, "stride": (2, 2)}

WORKLOADS = {
    "empty run": EMPTY_RUN,
    "pointwise relu": Workload("conv", (64,), 64, _MAP, bias=True, activation="relu"),
    "pointwise wide": Workload("conv", (128,), 128, (7, 7), bias=True),
    "pointwise relu6": Workload("conv", (32,), 64, _MAP, bias=True, activation="relu6"),
    "pointwise odd": Workload("conv", (13,), 27, (9, 9), bias=True, activation="relu"),
    "pointwise s2": Workload("conv", (32,), 64, _MAP, stride=(2, 2), bias=True),
    "pointwise batch 2": Workload("conv", (32,), 32, (7, 7), bias=True, activation="relu", batch=2),
    "depthwise s1": Workload("conv", (64,), 64, _MAP, **_SAME, groups=64, bias=True, activation="relu6"),
    "depthwise s2": Workload("conv", (64,), 64, _MAP, **_HALF, groups=64, bias=True, activation="relu6"),
    "depthwise 5x5 hardswish": Workload(
        "conv", (72,), 72, _MAP, (5, 5), (1, 1), (2, 2), groups=72, bias=True, activation="hardswish"
    ),
    "stem": Workload("conv", (3,), 16, (32, 32), **_HALF, bias=True, activation="relu"),
    "dense 3x3": Workload("conv", (16,), 16, _MAP, **_SAME, bias=True, activation="relu"),
    "dense 3x3 s2": Workload("conv", (16,), 32, _MAP, **_HALF, bias=True),
    "grouped 3x3": Workload("conv", (32,), 32, (7, 7), **_SAME, groups=4, bias=True),
    "dilated 3x3": Workload("conv", (16,), 16, (10, 10), (3, 3), padding=(2, 2), dilation=(2, 2), bias=True),
    "linear": Workload("linear", (256,), 100, bias=True),
    "linear without bias": Workload("linear", (64,), 10),
    "max pool": Workload("max_pool", (32,), 32, _MAP, (3, 3), (2, 2), ceil_mode=True),
    "average pool": Workload("avg_pool", (32,), 32, _MAP, **_SAME, count_include_pad=False),
    "global average pool": Workload("global_avg_pool", (128,), 128, (7, 7)),
    "add relu": Workload("add", (64, 64), 64, _MAP, activation="relu"),
    "mul": Workload("mul", (32, 32), 32, _MAP),
    "scale": Workload("scale", (72, 72), 72, _MAP),
    "concat": Workload("concat", (16, 24, 40), 80, _MAP),
    "batch norm": Workload("batch_norm", (32,), 32, _MAP),
    "hardswish": Workload("activation", (32,), 32, _MAP, activation="hardswish"),
    "hardsigmoid": Workload("activation", (64,), 64, (1, 1), activation="hardsigmoid"),
    "sigmoid": Workload("activation", (32,), 32, _MAP, activation="sigmoid"),
    "silu": Workload("activation", (32,), 32, _MAP, activation="silu"),
    "tanh": Workload("activation", (32,), 32, _MAP, activation="tanh"),
}
#: Also measured in ncnn and TVM.
OTHER_WORKLOADS = (
    "empty run",
    "pointwise relu",
    "depthwise s1",
    "depthwise s2",
    "dense 3x3",
    "stem",
    "linear",
    "add relu",
    "scale",
    "global average pool",
    "hardswish",
)


def main() -> None:
    """Measure everything and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=2, help="guests at once (default: 2)")
    guests = parser.parse_args().guests
    try:
        origins = made_with(require())
        entries = [entry for device, names in _devices() for entry in _entries(device, names, guests)]
        if made_with(require()) != origins:
            sys.exit("a part of the simulator was changed meanwhile; run this again")
    except NetAdaptError as error:
        sys.exit(str(error))
    write_atomically(FILE, golden_text(origins, WORKLOADS, entries).encode())
    print(f"{FILE}: {len(entries)} entries")


def made_with(installation: Installation) -> dict[str, dict[str, str]]:
    """What the figures depend on: versions in the guest, and digests of our own parts."""
    identities = {name: identity(load_platform(name)) for name in PLATFORMS}
    return {
        "guest": {name: text for name, text in installation.versions.items() if name not in HOST_PARTS},
        "sources": {
            "plugin": installation.versions["plugin"],
            "scripts": identities[PLATFORMS[0]]["scripts"],
            "onnx": metadata.version("onnx"),
            "boards' scripts": identity(load_platform(TVM_PLATFORMS[0]))["scripts"],
            "schedules": schedules("llvm")["schedules"],
            **{name: facts["core"] for name, facts in identities.items()},
        },
    }


def golden_text(
    origins: Mapping[str, Mapping[str, str]], workloads: Mapping[str, Workload], entries: list[dict[str, Any]]
) -> str:
    """The canonical file: one line for each workload and entry, so that its differences can be read."""
    parts = {
        "made_with": _lines({kind: dict(sorted(versions.items())) for kind, versions in origins.items()}),
        "workloads": _lines({name: _facts(workload) for name, workload in workloads.items()}),
        "entries": "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in entries) + "\n ]",
    }
    return "{\n" + ",\n".join(f' "{name}": {text}' for name, text in parts.items()) + "\n}\n"


def _lines(values: Mapping[str, Any]) -> str:
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()) + "\n }"


def _facts(workload: Workload) -> dict[str, Any]:
    """The fields that are not as in any workload."""
    plain = asdict(Workload(workload.op, workload.in_channels, workload.out_channels))
    required = ("op", "in_channels", "out_channels")
    return {name: value for name, value in asdict(workload).items() if name in required or value != plain[name]}


def _devices() -> Iterator[tuple[SimulatedDevice | RpcDevice, list[str]]]:
    for name in PLATFORMS:
        with SimulatedDevice(load_platform(name)) as device:
            yield device, list(WORKLOADS)
    ncnn = load_platform(NCNN_PLATFORM).model_copy(update={"runtime": NcnnRuntime(name="ncnn")})
    with SimulatedDevice(ncnn) as device:
        yield device, list(OTHER_WORKLOADS)
    for name in TVM_PLATFORMS:
        with RpcDevice(load_platform(name)) as boards:
            yield boards, list(OTHER_WORKLOADS)


def _entries(device: SimulatedDevice | RpcDevice, names: list[str], guests: int) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(guests) as pool:
        costs = {name: pool.submit(golden_costs, device, WORKLOADS[name]) for name in names}
        for name, future in costs.items():
            entry = {
                "platform": device.platform.name,
                "runtime": device.platform.runtime.name,
                "workload": name,
                **future.result(),
            }
            print(json.dumps(entry), file=sys.stderr, flush=True)
            yield entry


def golden_costs(device: SimulatedDevice | RpcDevice, workload: Workload) -> dict[str, int]:
    """What is recorded of an operation."""
    energy = device.workload_costs(workload)["energy"].value
    if isinstance(device, RpcDevice):
        counts = device.workload_details(workload)
        return {"cycles": counts["cycles"], "instructions": counts["instructions"], "energy_pj": energy}
    counted = device.workload_counts(workload)
    return {"cycles": counted.cycles, "instructions": counted.instructions, "energy_pj": energy}


if __name__ == "__main__":
    main()
