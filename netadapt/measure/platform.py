"""Platform definitions: TOML files that say what a device is and how it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from netadapt.measure.definitions import (
    Section,
    definition_error,
    definition_folders,
    definition_names,
    faults_of,
    find_definition,
    parse_toml,
    read_toml,
)
from netadapt.measure.measurement import Tier
from netadapt.measure.protocol import Timing

#: TOML arrays arrive as lists, which strict mode does not take for tuples.
_Names = Annotated[tuple[str, ...], Field(strict=False)]
_Metrics = Annotated[tuple[Literal["latency", "energy"], ...], Field(strict=False)]
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


class TvmTarget(Section):
    """What TVM compiles for, and what links the result."""

    #: "llvm" makes code for CPUs, "opencl" kernels for GPUs and code for the CPU that starts them.
    kind: Literal["llvm", "opencl"]
    #: LLVM's name of the system, such as "aarch64-linux-gnu" or "aarch64-linux-android"; None is this machine.
    mtriple: str | None = None
    #: LLVM's name of the core, such as "cortex-a72"; None with this machine is the core it has.
    mcpu: str | None = None
    #: Features of the core besides those that `mcpu` implies, such as "+neon".
    mattr: _Names = ()
    #: Whose OpenCL, which sets its limits; only with kind "opencl".
    gpu: Literal["generic", "adreno", "mali"] | None = None
    #: What links libraries: a compiler's command, such as "aarch64-linux-gnu-gcc" or the path of the NDK's clang, or
    #: "ziglang", the Python package, which links for every system.
    linker: str = "cc"

    @model_validator(mode="after")
    def _check_gpu(self) -> Self:
        if (self.gpu is not None) != (self.kind == "opencl"):
            raise ValueError('kind "opencl" needs a gpu, and only it has one')
        return self


class TvmRuntime(Section):
    """Apache TVM: models compiled ahead, for the device."""

    name: Literal["tvm"]
    threads: int = Field(default=1, ge=1, le=256)
    target: TvmTarget
    #: Records of `netadapt tune` whose kernels are used: the path of a file, or the name of one in the user's data
    #: folder, which is that of the platform it was made on. None is our kernels only.
    tuning: str | None = None

    @model_validator(mode="after")
    def _check_tuning(self) -> Self:
        if self.tuning is not None and self.target.kind != "llvm":
            raise ValueError('only kernels of target kind "llvm" are tuned')
        return self


Runtime = Annotated[OrtRuntime | NcnnRuntime | TvmRuntime, Field(discriminator="name")]


def _with_port(address: str) -> str:
    if not 0 < int(address.rpartition(":")[2]) < 1 << 16:
        raise ValueError("a port is a number from 1 to 65535")
    return address


_Address = Annotated[
    str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]\s\x00]+):[0-9]{1,5}$"), AfterValidator(_with_port)
]


class Rpc(Section):
    """How boards are reached: TVM's RPC, a server directly or a tracker that knows servers by their key."""

    #: HOST:PORT of a server or of a tracker; neither with emulated boards, which netadapt starts itself.
    server: _Address | None = None
    tracker: _Address | None = None
    #: What the servers call themselves: any number with one key measure in parallel.
    key: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    #: The hardware, such as "Raspberry Pi 4 Model B, 2 GB". Boards of one key must be equal: they share a table.
    board: str = ""
    #: How long to wait for an answer to a connection, for a free board, and for the whole of one measurement.
    connect_limit_s: _Seconds = 10.0
    busy_limit_s: _Seconds = 60.0
    session_limit_s: _Seconds = 120.0
    #: Above this a board counts as throttled, where it tells its temperature.
    most_celsius: float = Field(default=80.0, gt=0, strict=False)


class Emulated(Section):
    """Boards that are processes of QEMU on this machine, which run the same server as a board does."""

    #: What QEMU emulates, such as "cortex-a72"; with a core model, that core.
    cpu: str | None = None
    #: How many boards; None is as many as this machine has cores.
    boards: int | None = Field(default=None, ge=1, le=64)


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
    #: "rpc" reaches boards by the network.
    transport: Literal["local", "qemu", "rpc"]
    #: Name or path of the core model; with transport "qemu", or of emulated boards whose clock it then is.
    core: str | None = None
    runtime: Runtime
    #: Only with transport "rpc".
    rpc: Rpc | None = None
    #: Boards that netadapt starts itself, instead of an address; only with transport "rpc".
    emulated: Emulated | None = None
    #: Channel counts of an adapted network are multiples of this.
    width_multiple: int = Field(ge=1)
    metrics: _Metrics = ("latency",)
    #: What the numbers of this platform may be used for.
    card: str = Field(min_length=1)
    #: Platforms to use instead, in this order, when this one is not available.
    fallback: _Names = ()
    protocol: Limits = Limits()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for broken, rule in self._rules():
            if broken:
                raise ValueError(rule)
        return self

    def _rules(self) -> list[tuple[bool, str]]:
        """What must not be, and the rule that it breaks."""
        rpc, guest, emulated = self.transport == "rpc", self.transport == "qemu", self.emulated is not None
        addresses = [self.rpc.server, self.rpc.tracker] if self.rpc else []
        given = len(addresses) - addresses.count(None)
        tvm, ncnn = self.runtime.name == "tvm", self.runtime.name == "ncnn"
        core = self.core is not None
        return [
            (guest and not core, 'transport "qemu" needs a core'),
            (core and not guest and not emulated, 'only transport "qemu" and emulated boards have a core'),
            (
                (self.tier == "simulated") != core,
                'what has a core gives numbers of tier "simulated", and only it does',
            ),
            (
                (self.tier == "emulated") != (emulated and not core),
                'emulated boards without a core are of tier "emulated", and only they are',
            ),
            ((self.tier == "device") != (rpc and not emulated), 'boards are of tier "device", and only they are'),
            ((self.tier == "emulated") == bool(self.metrics), 'tier "emulated" has no metrics; every other has some'),
            (not rpc and (emulated or self.rpc is not None), 'only transport "rpc" has sections rpc and emulated'),
            (emulated and given > 0, "emulated boards are started by netadapt and have no address"),
            (rpc and not emulated and given != 1, "rpc needs the address of either a server or a tracker"),
            (rpc and not emulated and not (self.rpc and self.rpc.board), "rpc.board must say what the board is"),
            (bool(self.rpc and self.rpc.tracker and not self.rpc.key), "a tracker needs the key of the boards"),
            (rpc and ncnn, 'runtime "ncnn" is not served over rpc; use "ort" or "tvm"'),
            (guest and tvm, 'runtime "tvm" is simulated behind its rpc: transport "rpc" with a section emulated'),
            (core and self.runtime.threads > 1, "a simulated core runs one thread"),
            (
                self.transport == "local" and self.runtime.name == "ncnn" and self.runtime.dtype != "float32",
                "ncnn on this machine is measured in float32 only",
            ),
        ]

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
    return definition_names(platform_folders())


def load_platform(name_or_path: str | Path) -> Platform:
    """Read a definition: a path of a TOML file, or the name of a bundled platform or one of the user's own.

    A user's definition goes before a bundled one of the same name.

    Raises:
        UnknownNameError: there is no platform of that name.
        DefinitionError: the file cannot be used; all its faults are listed with their fields.

    """
    path = find_definition("platform", name_or_path, platform_folders())
    return _platform(read_toml(path, "platform definition"), path)


def parse_platform(text: str, path: Path) -> Platform:
    """Read a definition that is not yet in its file.

    Raises:
        DefinitionError: as `load_platform`.

    """
    return _platform(parse_toml(text, path), path)


def _platform(fields: dict[str, Any], path: Path) -> Platform:
    try:
        return Platform.model_validate(fields)
    except ValidationError as error:
        raise definition_error(path, faults_of(error, unions=("runtime",))) from error


def platform_folders() -> list[Path]:
    """Folders with definitions that exist, the user's own before the bundled ones."""
    return definition_folders("platforms", "platforms")
