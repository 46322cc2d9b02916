"""Platform definitions: TOML files that say what a device is and how it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from netadapt.measure.definitions import (
    Section,
    definition_error,
    definition_folders,
    definition_names,
    faults_of,
    find_definition,
    read_toml,
)
from netadapt.measure.measurement import Tier
from netadapt.measure.protocol import Timing

#: TOML arrays arrive as lists, which strict mode does not take for tuples.
_Names = Annotated[tuple[str, ...], Field(strict=False)]
_Metrics = Annotated[tuple[Literal["latency", "energy"], ...], Field(strict=False, min_length=1)]
_Seconds = Annotated[float, Field(gt=0, le=3600, strict=False)]


Dtype = Literal["float32", "float16"]


class OrtRuntime(Section):
    """ONNX Runtime."""

    name: Literal["ort"]
    threads: int = Field(default=1, ge=1, le=256)


class NcnnRuntime(Section):
    """ncnn, the engine that many phone applications carry."""

    name: Literal["ncnn"]
    threads: int = Field(default=1, ge=1, le=256)
    #: What ncnn computes in. float16 needs a core that can, such as a Cortex-A55 or A76.
    dtype: Dtype = "float32"


Runtime = Annotated[OrtRuntime | NcnnRuntime, Field(discriminator="name")]


class Limits(Section):
    """Time limits of one measurement, in seconds, after warm-up."""

    workload_time_limit_s: _Seconds = 1.0
    network_time_limit_s: _Seconds = 10.0


class Platform(Section):
    """A definition as its file has it; see `platforms/` for the meaning of the fields."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = Field(min_length=1)
    tier: Tier
    #: "local" runs on this machine, "qemu" in a guest whose clock is the cycles of `core`.
    transport: Literal["local", "qemu"]
    #: Name or path of the core model; only with transport "qemu".
    core: str | None = None
    runtime: Runtime
    #: Channel counts of an adapted network are multiples of this.
    width_multiple: int = Field(ge=1)
    metrics: _Metrics = ("latency",)
    #: What the numbers of this platform may be used for.
    card: str = Field(min_length=1)
    #: Platforms to use instead, in this order, when this one is not available.
    fallback: _Names = ()
    protocol: Limits = Limits()

    @model_validator(mode="after")
    def _check_core(self) -> Self:
        if (self.core is not None) != (self.transport == "qemu"):
            raise ValueError('transport "qemu" needs a core, and only it has one')
        if (self.tier == "simulated") != (self.transport == "qemu"):
            raise ValueError('transport "qemu" gives numbers of tier "simulated", and only it does')
        if self.transport == "qemu" and self.runtime.threads > 1:
            raise ValueError("a simulated core runs one thread")
        if self.transport == "local" and self.runtime.name == "ncnn" and self.runtime.dtype != "float32":
            raise ValueError("ncnn on this machine is measured in float32 only")
        return self

    def workload_timing(self) -> Timing:
        """Parameters for timing a single operation."""
        return self._timing(self.protocol.workload_time_limit_s)

    def network_timing(self) -> Timing:
        """Parameters for timing a whole network."""
        return self._timing(self.protocol.network_time_limit_s)

    def _timing(self, limit_s: float) -> Timing:
        # The calling thread waits for its helpers, so its CPU time says nothing when there are several threads.
        share = Timing().min_cpu_share if self.runtime.threads == 1 else 0.0
        return Timing(time_limit_ns=round(limit_s * 1e9), min_cpu_share=share)


def list_platforms() -> list[str]:
    """Names of the bundled platforms and of those in the user's configuration folder, sorted."""
    return definition_names(_folders())


def load_platform(name_or_path: str | Path) -> Platform:
    """Read a definition: a path of a TOML file, or the name of a bundled platform or one of the user's own.

    A user's definition goes before a bundled one of the same name.

    Raises:
        UnknownNameError: there is no platform of that name.
        DefinitionError: the file cannot be used; all its faults are listed with their fields.

    """
    path = find_definition("platform", name_or_path, _folders())
    fields = read_toml(path, "platform definition")
    try:
        return Platform.model_validate(fields)
    except ValidationError as error:
        raise definition_error(path, faults_of(error, unions=("runtime",))) from error


def _folders() -> list[Path]:
    return definition_folders("platforms", "platforms")
