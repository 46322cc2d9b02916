"""The seam between what asks for costs (table, search, command line) and what can tell them (runtimes)."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import netadapt
from netadapt.errors import MeasurementError, UnknownNameError
from netadapt.measure import machine
from netadapt.measure.lock import MeasuringLock, OnWait
from netadapt.measure.measurement import Measurement, Provenance
from netadapt.measure.model_file import Model as Model
from netadapt.measure.platform import Platform, load_platform
from netadapt.measure.protocol import PROTOCOL_VERSION, BlockSource
from netadapt.network.workload import Workload


class Device(ABC):
    """An open platform. Close it, or use it as a context manager."""

    #: How many models can be measured at once, from as many threads.
    capacity: int = 1

    def __init__(self, platform: Platform, requested: str = "", lock: MeasuringLock | None = None) -> None:
        self.platform = platform
        #: Name of the platform that was asked for; differs from `platform.name` after a fallback.
        self.requested = requested or platform.name
        self.fingerprint = fingerprint(platform)
        #: What keeps others from measuring meanwhile; None where measuring does not disturb (a simulated clock).
        self.lock = lock

    @abstractmethod
    def costs(self, model: Model) -> dict[str, Measurement]:
        """Measure a model with everything it needs when it runs alone; one measurement for each metric.

        Raises:
            ModelError: not a model, or one that cannot run (dynamic shapes, invalid graph).
            MeasurementError: the platform cannot run it (unsupported operator) or failed.

        """

    @abstractmethod
    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        """Measure one operation as it runs inside a network; one measurement for each metric.

        Raises:
            MeasurementError: the platform cannot run it, or failed.

        """

    @abstractmethod
    def load(self, model: Model) -> AbstractContextManager[BlockSource]:
        """Make a model ready to be timed block by block, for interleaved comparisons. Blocks are latencies in ns.

        Raises:
            ModelError, MeasurementError: as `costs`.

        """

    def details(self, model: Model) -> dict[str, Any]:
        """What else the platform can tell about a run of the model; nothing where there is only a clock.

        Raises:
            ModelError, MeasurementError: as `costs`.

        """
        return {}

    def profile(self, model: Model) -> list[LayerCost]:
        """Tell where the time of a run goes, in the order of execution.

        Raises:
            ModelError: as `costs`.
            MeasurementError: as `costs`, or the platform cannot tell.

        """
        raise MeasurementError(
            f"platform {self.platform.name} cannot tell where the time of a run goes; a simulated one can"
            " (netadapt platforms list)"
        )

    def measure(self, model: Model, metric: str = "latency") -> Measurement:
        """Measure one metric of a model.

        Raises:
            UnknownNameError: the platform does not offer the metric.
            ModelError, MeasurementError: as `costs`.

        """
        self.require_metric(metric)
        return self.costs(model)[metric]

    def measure_workload(self, workload: Workload, metric: str = "latency") -> Measurement:
        """Measure one metric of an operation.

        Raises:
            UnknownNameError: the platform does not offer the metric.
            MeasurementError: as `workload_costs`.

        """
        self.require_metric(metric)
        return self.workload_costs(workload)[metric]

    def provenance(
        self, form: str, *, runtime: str, runtime_version: str, machine_name: str, cores: int, system: str
    ) -> Provenance:
        """Where a number of this device comes from.

        Args:
            form: what ran, see `Provenance`.
            runtime: the Python distribution that ran it.
            runtime_version: its version.
            machine_name: what it ran on.
            cores: how many cores that has.
            system: its operating system.

        """
        return Provenance(
            platform=self.platform.name,
            requested=self.requested,
            fingerprint=self.fingerprint,
            protocol_version=PROTOCOL_VERSION,
            netadapt=netadapt.__version__,
            runtime=runtime,
            runtime_version=runtime_version,
            machine=machine_name,
            cores=cores,
            os=system,
            date=datetime.now(UTC).date().isoformat(),
            commit=machine.commit(),
            form=form,
        )

    def require_metric(self, metric: str) -> None:
        """Raise UnknownNameError unless the platform offers the metric."""
        if metric not in self.platform.metrics:
            raise UnknownNameError(f"metric of platform {self.platform.name}", metric, self.platform.metrics)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep everybody else from measuring on this device. May be nested."""
        return self.lock.held() if self.lock else nullcontext()

    def close(self) -> None:  # noqa: B027 - most devices hold nothing
        """Give back what the device holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer of a model, as the runtime runs it, takes of a run."""

    name: str
    #: What the runtime calls this kind of layer.
    op: str
    #: None where there is a clock and no cycles.
    cycles: int | None
    latency_ns: float


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a platform needs."""

    what: str
    ok: bool
    detail: str


class RuntimeModule(Protocol):
    """What the module of a runtime offers. Importing it must not import the runtime itself."""

    def open_device(self, platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
        """Open the device; raises MeasurementError when it is not available."""

    def identity(self, platform: Platform) -> dict[str, str]:
        """Everything besides the definition that changes the cost: versions, target, layout."""

    def check(self, platform: Platform) -> list[Check]:
        """Tell what the platform needs and whether it is there."""


_LOCAL_RUNTIMES = {
    "ort": "netadapt.measure.ort",
    "ncnn": "netadapt.measure.ncnn",
    "tvm": "netadapt.measure.tvm.local",
}
_LOCAL_OPENCL = "netadapt.measure.tvm.opencl_device"
_SIMULATOR = "netadapt.measure.simulator.device"
_RPC = "netadapt.measure.rpc.device"


def open_device(
    platform: Platform | str | Path,
    on_wait: OnWait | None = None,
    on_fallback: Callable[[str, str, str], None] | None = None,
) -> Device:
    """Open a platform, or the first of its fallbacks that is available.

    Args:
        platform: a definition, or its name or path.
        on_wait: hears, at once and every few seconds, which process is waited for because it is measuring.
        on_fallback: called with the name of the platform asked for, the reason why it is not available, and the
            name of the one used instead. The device's `platform` is then the one used.

    Raises:
        UnknownNameError, DefinitionError: there is no usable definition.
        MeasurementError: neither the platform nor a fallback is available.

    """
    wanted = platform if isinstance(platform, Platform) else load_platform(platform)
    try:
        return runtime_module(wanted).open_device(wanted, wanted.name, on_wait)
    except MeasurementError as error:
        reason = str(error)
        if not wanted.fallback:
            raise
    for name in wanted.fallback:
        other = load_platform(name)
        try:
            device = runtime_module(other).open_device(other, wanted.name, on_wait)
        except MeasurementError as error:
            reason += f"; fallback {name}: {error}"
            continue
        if on_fallback:
            on_fallback(wanted.name, reason, name)
        return device
    raise MeasurementError(f"platform {wanted.name} is not available: {reason}")


def check_platform(platform: Platform) -> list[Check]:
    """Tell what a platform needs and whether it is there, without raising an error for what is missing."""
    return runtime_module(platform).check(platform)


def fingerprint(platform: Platform) -> str:
    """Hash of everything that changes the cost on a platform, 16 hexadecimal digits.

    Definitions that differ only in name, title, card or time limits have the same one.
    """
    facts = {
        "tier": platform.tier,
        # Which records are used is told by their content, not by where they lie.
        "runtime": platform.runtime.model_dump(exclude={"tuning"}),
        "identity": runtime_module(platform).identity(platform),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def runtime_module(platform: Platform) -> RuntimeModule:
    """Import the module that drives the runtime of a platform."""
    return cast(RuntimeModule, importlib.import_module(_module_name(platform)))


def _module_name(platform: Platform) -> str:
    if platform.transport == "rpc":
        return _RPC
    if platform.transport == "qemu":
        return _SIMULATOR
    if platform.runtime.name == "tvm" and platform.runtime.target.kind == "opencl":
        return _LOCAL_OPENCL
    return _LOCAL_RUNTIMES[platform.runtime.name]
