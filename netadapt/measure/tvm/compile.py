"""Compile ONNX models with TVM for a device."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from netadapt.errors import MeasurementError, NetAdaptError
from netadapt.measure.local import version
from netadapt.measure.platform import TvmRuntime, TvmTarget
from netadapt.measure.tvm.cpu_target import cpu_fields
from netadapt.measure.tvm.library import GENERAL, Library

DISTRIBUTIONS = ("apache-tvm", "apache-tvm-ffi")
#: TVM keeps what it is building in variables that all threads share.
_ONE_AT_A_TIME = threading.Lock()
#: TVM's merging of buffers forgets that those of our kernels are to be on the stack, and so in registers.
_CONFIG = {"tirx.disable_storage_rewrite": True}
_INSTALL = "pip install '.[tvm]' in a clone of netadapt"
#: Modules of this folder that make kernels for CPUs alone; those for GPUs alone are called opencl and more.
_CPU_MODULES = ("code", "cpu", "expressions", "kernels", "marks", "operators", "vector_unit", "window")
_TUNING_MODULES = ("records", "tuning")
#: Modules that judge results, which changes no code.
_CHECKING_MODULES = ("checked_library", "reference")


def compile_model(model: bytes, runtime: TvmRuntime, interior: bool = False, name: str = "model") -> Library:
    """Compile a model into a library for a device.

    Args:
        model: contents of an ONNX file.
        runtime: what to compile for.
        interior: whether the model is a layer whose images come and go in the order that they have inside a network,
            so that turning them is not counted as its work.
        name: what errors call the model.

    Raises:
        ModelError: not a valid ONNX model.
        MeasurementError: TVM is not installed, lacks an operator or fails; the linker is missing or fails.
        TuningError: the runtime's tuning records cannot be read, or are of another target or version.

    """
    require_tvm()
    with _ONE_AT_A_TIME:
        return _compiled(model, runtime, interior, name)


def _compiled(model: bytes, runtime: TvmRuntime, interior: bool, name: str) -> Library:
    from netadapt.measure.tvm import importing

    module = importing.interior(model, name) if interior else importing.imported(model, name)
    target = compiler_target(runtime.target)
    passes = _pipeline(runtime, target)
    with compiling(name), target:
        scheduled = passes(module)
    inputs, outputs = importing.tensors(model, moved=interior)
    return Library(built(scheduled, runtime.target, name), inputs, outputs, _general_kernels(scheduled))


def built(scheduled: Any, target: TvmTarget, name: str) -> bytes:
    """The shared library of a module whose kernels are scheduled.

    Raises:
        MeasurementError: TVM fails, or the linker is missing or fails.

    """
    import tvm

    from netadapt.measure.tvm.linker import linked

    compiler = compiler_target(target)
    with compiling(name), tvm.transform.PassContext(config=_CONFIG):
        executable = tvm.compile(scheduled, target=compiler, relax_pipeline=_lowering(compiler))
        return linked(executable, target)


@contextmanager
def compiling(name: str) -> Iterator[None]:
    """Make whatever TVM raises meanwhile a MeasurementError that names the model."""
    with _interruption() as noted:
        try:
            yield
        except NetAdaptError:
            raise
        except Exception as error:  # TVM raises errors of many types here
            if noted.is_set():
                raise KeyboardInterrupt from None
            raise MeasurementError(f"{name}: TVM cannot compile it: {error}") from error


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Note whether Ctrl-C was pressed: where that meets Python code called by TVM, it comes out as a RuntimeError."""
    noted = threading.Event()
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        # Signals go to the main thread only.
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.set()
        handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, handler)


def require_tvm() -> None:
    """Raise MeasurementError unless TVM can be imported."""
    try:
        import tvm  # noqa: F401
    except ImportError as error:
        raise MeasurementError(f"runtime tvm needs Apache TVM ({error}); install it with: {_INSTALL}") from error


def compiler_target(target: TvmTarget) -> Any:
    """TVM's own description of a target."""
    from tvm.target import Target

    if target.kind == "opencl":
        from netadapt.measure.tvm.opencl import opencl_target

        return opencl_target(target)
    return Target(cpu_fields(target))


def _pipeline(runtime: TvmRuntime, compiler: Any) -> Any:
    """The passes from an imported model to scheduled kernels."""
    if runtime.target.kind == "opencl":
        from netadapt.measure.tvm.opencl import opencl_pipeline

        return opencl_pipeline(runtime.target)
    from netadapt.measure.tvm.cpu import cpu_pipeline

    return cpu_pipeline(compiler, _tuned(runtime))


def _tuned(runtime: TvmRuntime) -> Any:
    """What gives the kernels that the runtime's tuning records have; None where it names no records."""
    if runtime.tuning is None:
        return None
    from netadapt.measure.tvm.records import Records, Replay, records_path

    path = records_path(runtime.tuning)
    records = Records.read(path)
    records.require(cpu_fields(runtime.target), str(path))
    return Replay(records)


def _lowering(target: Any) -> Any:
    """The passes from scheduled kernels to the virtual machine's code; TVM's own pipeline would schedule first."""
    import tvm
    from tvm.relax.backend.cpu_generic import pipeline as cpu_generic
    from tvm.relax.backend.gpu_generic import pipeline as gpu_generic

    backend = cpu_generic if target.kind.name == "llvm" else gpu_generic
    return tvm.transform.Sequential([*backend.dataflow_lower_passes(target), *backend.finalize_passes(target)])


def _general_kernels(scheduled: Any) -> tuple[str, ...]:
    """Names of the kernels that none of our schedules fits."""
    return tuple(
        sorted(var.name_hint for var, function in scheduled.functions.items() if (function.attrs or {}).get(GENERAL))
    )


def identity(target_kind: str) -> dict[str, str]:
    """What changes the code that a model is compiled to, besides the target and tuning records."""
    return {**{name: version(name) for name in DISTRIBUTIONS}, "schedules": _sources_digest(target_kind)}


def tuning_identity(runtime: TvmRuntime) -> dict[str, str]:
    """The digest of the runtime's tuning records; nothing where it names none.

    Raises:
        TuningError: they cannot be read.

    """
    if runtime.tuning is None:
        return {}
    from netadapt.measure.tvm.records import Records, records_path

    return {"tuning": Records.read(records_path(runtime.tuning)).digest}


@cache
def _sources_digest(target_kind: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if _is_for(target_kind, path.stem):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_for(target_kind: str, module: str) -> bool:
    if module in (*_TUNING_MODULES, *_CHECKING_MODULES):
        # What tuning finds is told by the records' own digest.
        return False
    if module in _CPU_MODULES:
        return target_kind == "llvm"
    return target_kind == "opencl" or not module.startswith("opencl")
