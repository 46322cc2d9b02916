"""Simulated cores: the runtime's own machine code under QEMU, timed by the plugin. Deterministic to the last digit."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from netadapt.errors import MeasurementError, NetAdaptError
from netadapt.measure import machine
from netadapt.measure.device import Check, Device, LayerCost, Model
from netadapt.measure.lock import OnWait
from netadapt.measure.measurement import Measurement
from netadapt.measure.platform import Platform
from netadapt.measure.protocol import Block
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.costs import require_modelled, simulated_costs, simulated_provenance
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.simulator.energy import energy_parts_pj, latency_ns
from netadapt.measure.simulator.guest import PATIENCE_S, Guest, Request
from netadapt.measure.simulator.install import installed, missing, require
from netadapt.measure.simulator.install.guest_root import computes_float16
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.workload import EMPTY_RUN, Workload

_SCRIPTS = Path(__file__).parent / "in_guest"
#: Wheels and scripts of one kind of guests, which those of the other kind never import.
_OF_BOARDS = frozenset({"apache-tvm", "apache-tvm-ffi", "ml_dtypes", "typing_extensions", "board.py", "tvm_program.py"})
_OF_OTHERS = frozenset({"onnxruntime", "ncnn", "ort_program.py", "ncnn_program.py"})


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
    """Open a simulated core; a guest is started when the first model is measured.

    Raises:
        SetupError: the simulator is not set up.
        UnknownNameError, DefinitionError: there is no usable core file.

    """
    return SimulatedDevice(platform, requested)


def identity(platform: Platform) -> dict[str, str]:
    """Everything that moves a cycle: the core, the plugin, the guest's software, and what divides it into blocks."""
    assert platform.core
    present = installed()
    versions = present.versions if present else {}
    without = _OF_OTHERS if platform.runtime.name == "tvm" else _OF_BOARDS
    without |= {"compiler", "qemu", "capstone"}
    return {
        "core": load_core(platform.core).digest,
        "scripts": _scripts_digest(without),
        **{name: version for name, version in versions.items() if name not in without},
        # Where blocks of instructions end is up to QEMU; its patch releases only mend faults.
        **({"qemu": ".".join(versions["qemu"].split(".")[:2])} if "qemu" in versions else {}),
    }


def check(platform: Platform) -> list[Check]:
    """Check every part of the set-up, the core file, and that a run of nothing gives cycles."""
    assert platform.core
    checks = missing()
    try:
        core = load_core(platform.core)
        checks.append(Check("core", True, f"{core.title}, {core.mhz} MHz, {len(core.forms)} forms of instructions"))
        with open_device(platform, platform.name, None) as device:
            empty = device.measure_workload(EMPTY_RUN)
    except NetAdaptError as error:
        return [*checks, Check("measuring", False, str(error))]
    return [*checks, Check("measuring", True, f"an empty run takes {empty.value} ns (simulated)")]


class SimulatedDevice(Device):
    """A core whose clock is computed. Measures as many models at once as this machine has cores."""

    def __init__(
        self, platform: Platform, requested: str = "", core: Core | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        assert platform.core
        self._installation = require(platform.name)
        #: The platform's core, unless another was given.
        self.core: Core = core or load_core(platform.core)
        if platform.runtime.name == "ncnn" and platform.runtime.dtype == "float16":
            _require_float16(self.core)
        super().__init__(platform, requested)
        self.capacity = machine.cores()
        self._runtime = guest_runtime(platform.runtime)
        self._patience_s = patience_s
        self._idle: list[Guest] = []
        self._counted: dict[str, Counts] = {}
        self._changing = threading.Lock()

    def costs(self, model: Model) -> dict[str, Measurement]:
        """Simulate a whole model; see `Device.costs`."""
        return self._measurements(self.counts(model), "model")

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        """Simulate one operation; see `Device.workload_costs`."""
        return self._measurements(self.workload_counts(workload), "operation")

    def counts(self, model: Model) -> Counts:
        """Count what one run of a model does.

        Raises:
            ModelError, MeasurementError: as `Device.costs`.

        """
        return self._count(self._runtime.of_model(model))

    def workload_counts(self, workload: Workload) -> Counts:
        """Count what one run of an operation does.

        Raises:
            MeasurementError: as `Device.workload_costs`.

        """
        return self._count(self._runtime.of_workload(workload))

    def latency_ns(self, model: Model) -> float:
        """Time of one run of a model in ns.

        Raises:
            ModelError, MeasurementError: as `Device.costs`.

        """
        return latency_ns(self.core, self.counts(model).cycles)

    def details(self, model: Model) -> dict[str, Any]:
        """Events of a run, and where its energy goes; see `Device.details`."""
        counts = self.counts(model)
        return {
            "core": self.core.name,
            "mhz": self.core.mhz,
            **asdict(counts),
            "instructions_per_cycle": counts.instructions_per_cycle,
            "unmodelled_share": counts.unmodelled_share,
            "energy_parts_pj": {part: round(pj) for part, pj in energy_parts_pj(self.core, counts).items()},
        }

    def profile(self, model: Model) -> list[LayerCost]:
        """Cycles of each layer of a run; see `Device.profile`."""
        with self._guest() as guest:
            layers = guest.profile(self._runtime.of_model(model))
        return [LayerCost(**layer, latency_ns=latency_ns(self.core, layer["cycles"])) for layer in layers]

    @contextmanager
    def load(self, model: Model) -> Iterator[SimulatedSource]:
        """Simulate a model; its blocks are all the same."""
        yield SimulatedSource(self.latency_ns(model))

    def forget(self) -> None:
        """Simulate again what was simulated before; the counts will be the same."""
        self._counted.clear()

    def close(self) -> None:
        """End all guests."""
        with self._changing:
            idle, self._idle = self._idle, []
        for guest in idle:
            guest.close()

    def _count(self, request: Request) -> Counts:
        key = hashlib.sha256(request.to_json(profile=False) + b"".join(request.files.values())).hexdigest()
        if key not in self._counted:
            with self._guest() as guest:
                counts = guest.measure(request)
            require_modelled(counts, self.core)
            self._counted[key] = counts
        return self._counted[key]

    @contextmanager
    def _guest(self) -> Iterator[Guest]:
        """A guest for the calling thread alone; one that is not alive any more does not come back."""
        with self._changing:
            guest = self._idle.pop() if self._idle else None
        if guest is not None and not guest.alive:
            guest.close()
            guest = None
        if guest is None:
            guest = Guest(self._installation, self.core, self._runtime.warm_up(), self._patience_s)
        usable = False
        try:
            yield guest
            usable = True
        except NetAdaptError:
            usable = guest.alive
            raise
        finally:
            # After Ctrl-C it may be in the middle of something.
            if usable:
                with self._changing:
                    self._idle.append(guest)
            else:
                guest.close()

    def _measurements(self, counts: Counts, form: str) -> dict[str, Measurement]:
        provenance = simulated_provenance(self, self.core, self._installation, self._runtime.distribution, form)
        return simulated_costs(self.platform, self.core, counts, provenance)


class SimulatedSource:
    """Blocks of a model on a simulated core, in ns."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    def warm_up(self) -> None:
        """Nothing: every run of the simulator is like the first."""

    def block(self) -> Block:
        """The one latency there is."""
        return Block(self._latency)


def _require_float16(core: Core) -> None:
    # ncnn would silently compute in float32.
    if not computes_float16(core.shown_cpu):
        raise MeasurementError(f"{core.name} has no half-precision arithmetic; take float32, or a Cortex-A55 or A76")


@cache
def _scripts_digest(without: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for script in sorted(_SCRIPTS.glob("*.py")):
        if script.name not in without:
            digest.update(script.read_bytes())
    return digest.hexdigest()[:16]
