"""Tuning records: the kernels that `netadapt tune` found to be faster than ours on a platform, and how they are made.

A file of canonical JSON for each platform. It has every kernel that was tuned, so that nothing is tuned twice; only
those that won have a trace, the steps of TVM's schedule that make the kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netadapt.errors import TuningError
from netadapt.files import write_atomically
from netadapt.measure.definitions import faults_of
from netadapt.measure.local import version
from netadapt.measure.measurement import Tier

if TYPE_CHECKING:
    from tvm import tirx

SCHEMA_VERSION: Literal[1] = 1
_COMPILER = "apache-tvm"
#: What MetaSchedule calls the function that a trace is of.
_FUNCTION = "main"

_Nanoseconds = Annotated[float, Field(gt=0)]

#: Records of whole networks have some hundred kilobytes.
_MOST_BYTES = 64 << 20


class TunedKernel(BaseModel):
    """What tuning came to for one fused function."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    #: TVM's name of the function in the network that it was first met in.
    name: str
    #: The fused function, as TVM writes it down.
    workload: dict[str, Any]
    #: Candidates that were made, of which `wrong` gave another result than expected, or none.
    trials: int = Field(ge=0)
    wrong: int = Field(ge=0)
    ours_ns: _Nanoseconds
    #: None where no candidate could be timed.
    best_ns: _Nanoseconds | None
    #: Time of the best candidate divided by ours, with its confidence interval, measured interleaved; None where
    #: the candidate did not look faster.
    ratio: tuple[float, float, float] | None = Field(default=None, strict=False)
    #: Steps that make the candidate from the function, as TVM writes them down; None where ours is as fast.
    trace: list[Any] | None

    @property
    def won(self) -> bool:
        """Whether the best candidate is used instead of our kernel."""
        return self.trace is not None


class _File(BaseModel):
    """The layout of a file of records."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1]
    platform: str
    tier: Tier
    tvm: str
    target: dict[str, Any]
    kernels: list[TunedKernel]


@dataclass(frozen=True, slots=True)
class Records:
    """All that is known of tuning on one platform."""

    platform: str
    tier: Tier
    #: Version of TVM, whose later ones may read a trace otherwise.
    tvm: str
    #: Fields of TVM's description of the CPU.
    target: Mapping[str, Any]
    kernels: tuple[TunedKernel, ...] = ()

    @classmethod
    def empty(cls, platform: str, tier: Tier, target: Mapping[str, Any]) -> Self:
        """Records of a platform that nothing was tuned on yet."""
        return cls(platform, tier, version(_COMPILER), target)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            TuningError: there is none, or it is not one of records.

        """
        try:
            if path.exists() and not path.is_file():
                raise TuningError(f"{path}: not a file of tuning records, and not even a plain file")
            if path.exists() and path.stat().st_size > _MOST_BYTES:
                raise TuningError(f"{path}: too large for a file of tuning records")
            found = _File.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise TuningError(f"{path}: there are no such tuning records; netadapt tune makes them") from None
        except OSError as error:
            raise TuningError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise TuningError(f"{path}: not a file of tuning records: {'; '.join(faults_of(error)[:3])}") from error
        except (ValueError, RecursionError) as error:
            raise TuningError(f"{path}: damaged, not JSON ({error}); remove it and tune again") from error
        return cls(found.platform, found.tier, found.tvm, found.target, tuple(found.kernels))

    def write(self, path: Path) -> None:
        """Write a file, wholly or not at all.

        Raises:
            TuningError: it cannot be written.

        """
        file = _File(
            schema_version=SCHEMA_VERSION,
            platform=self.platform,
            tier=self.tier,
            tvm=self.tvm,
            target=dict(self.target),
            kernels=list(self.kernels),
        )
        try:
            write_atomically(path, _canonical(file.model_dump(mode="json")) + b"\n")
        except OSError as error:
            raise TuningError(f"{path}: cannot be written: {error.strerror}") from error

    def require(self, target: Mapping[str, Any], where: str) -> None:
        """Raise TuningError unless the records are for this target and the version of TVM that is installed."""
        if self.tvm != version(_COMPILER):
            raise TuningError(f"{where}: made with TVM {self.tvm}, installed is {version(_COMPILER)}; tune again")
        if dict(self.target) != dict(target):
            raise TuningError(f"{where}: made for {_text(self.target)}, not for {_text(target)}; tune again")

    def with_kernel(self, kernel: TunedKernel) -> Self:
        """The records with one more kernel, in the place of an older one of the same function."""
        others = [other for other in self.kernels if other.workload != kernel.workload]
        kernels = sorted([*others, kernel], key=lambda each: _canonical(each.workload))
        return replace(self, kernels=tuple(kernels))

    @property
    def digest(self) -> str:
        """Hash of what the records change in compiled code, 16 hexadecimal digits."""
        changes = [[kernel.workload, kernel.trace] for kernel in self.kernels if kernel.won]
        return hashlib.sha256(_canonical(changes)).hexdigest()[:16]


class Replay:
    """Makes the kernels of records again; imports TVM.

    Raises:
        TuningError: TVM cannot read a function of the records.

    """

    def __init__(self, records: Records) -> None:
        self._kernels = [kernel for kernel in records.kernels if kernel.won]
        self._functions = Functions(self._kernels)

    def __call__(self, function: tirx.PrimFunc) -> tirx.PrimFunc | None:
        """The kernel that the records have for a fused function; None where they have none.

        Raises:
            TuningError: its trace cannot be replayed.

        """
        kernel = self._functions.find(function)
        return None if kernel is None else scheduled(function, kernel)


class Functions:
    """Finds what is known of a fused function, by its structure: names do not matter."""

    def __init__(self, kernels: Sequence[TunedKernel]) -> None:
        import tvm_ffi

        self._known: dict[int, list[tuple[tirx.PrimFunc, TunedKernel]]] = {}
        for kernel in kernels:
            function = _read_function(kernel)
            self._known.setdefault(tvm_ffi.structural_hash(function), []).append((function, kernel))

    def find(self, function: tirx.PrimFunc) -> TunedKernel | None:
        """What is known of the function, if anything."""
        import tvm_ffi

        for known, kernel in self._known.get(tvm_ffi.structural_hash(function), []):
            if tvm_ffi.structural_equal(known, function):
                return kernel
        return None


def records_path(name_or_path: str) -> Path:
    """The file that is meant: a path, or the name of a platform whose records lie in the user's data folder."""
    if name_or_path.endswith(".json") or "/" in name_or_path:
        return Path(name_or_path)
    return platformdirs.user_data_path("netadapt") / "tuning" / f"{name_or_path}.json"


def workload_of(function: tirx.PrimFunc) -> dict[str, Any]:
    """A fused function, as records have it."""
    import tvm

    written: dict[str, Any] = json.loads(tvm.ir.save_json(function))
    return written


def scheduled(function: tirx.PrimFunc, kernel: TunedKernel) -> tirx.PrimFunc:
    """The kernel that the trace of a record makes from the function that it is of.

    Raises:
        TuningError: it is not a trace, or one of another function.

    """
    import tvm
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import Trace

    try:
        schedule = Schedule(tvm.IRModule({_FUNCTION: function.with_attr("global_symbol", _FUNCTION)}))
        Trace.apply_json_to_schedule(kernel.trace, schedule)
        body = schedule.mod[_FUNCTION].body
    except Exception as error:  # TVM raises errors of many types here
        raise TuningError(f"the tuning record of {kernel.name} is damaged: {_last_line(error)}; tune again") from error
    return function.with_body(body).with_attr("tirx.is_scheduled", True)


def _read_function(kernel: TunedKernel) -> tirx.PrimFunc:
    import tvm
    from tvm import tirx

    try:
        function = tvm.ir.load_json(json.dumps(kernel.workload))
    except Exception as error:  # TVM raises errors of many types here
        raise TuningError(f"the tuning record of {kernel.name} is damaged: {_last_line(error)}; tune again") from error
    if not isinstance(function, tirx.PrimFunc):
        raise TuningError(f"the tuning record of {kernel.name} is damaged: it is of no function; tune again")
    return function


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _text(target: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(target.items()))


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
