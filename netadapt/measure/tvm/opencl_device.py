"""Platform `opencl-local`: the OpenCL kernels that TVM generates, on the OpenCL of this machine.

TVM's wheel has a compiler for OpenCL and no runtime, so the kernels are started through pyopencl: on a GPU if there is
one, else on PoCL, which runs them on the CPU. The cost of a run is the time of its kernels by the device's own events.
Results are checked against ONNX Runtime before anything is timed. A kernel that crashes takes this process with it;
one that hangs hangs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netadapt.errors import MeasurementError
from netadapt.measure.device import Check, Device, LayerCost, Model
from netadapt.measure.local import LocalDevice, Program, checks, version
from netadapt.measure.lock import MeasuringLock, OnWait, machine_lock_path
from netadapt.measure.measurement import Provenance
from netadapt.measure.model_file import model_bytes, model_name
from netadapt.measure.platform import Platform, TvmRuntime, TvmTarget
from netadapt.measure.protocol import BlockSource, Timing
from netadapt.measure.statistics import median
from netadapt.measure.tvm import compile as compiling
from netadapt.network.workload import Workload

if TYPE_CHECKING:
    from netadapt.measure.tvm.opencl_run import OpenclRun

_DISTRIBUTION = "apache-tvm"
_PROFILED_RUNS = 11


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
    """Open the OpenCL of this machine.

    Raises:
        MeasurementError: TVM or pyopencl is not installed, or there is no OpenCL.

    """
    compiling.require_tvm()
    return OpenclDevice(platform, requested, MeasuringLock(machine_lock_path(), on_wait))


def identity(platform: Platform) -> dict[str, str]:
    """The OpenCL device with its driver, versions of TVM and PoCL, and the schedules."""
    return {**compiling.identity("opencl"), **_device_facts()}


def check(platform: Platform) -> list[Check]:
    """Check that TVM and pyopencl are there, that there is an OpenCL device, and that a run of nothing gives a time."""
    facts = _device_facts()
    found = Check("OpenCL device", bool(facts), facts.get("device", "none"))
    opened = checks(
        platform, [*compiling.DISTRIBUTIONS, "pyopencl"], lambda: open_device(platform, platform.name, None)
    )
    return [*opened[:-1], found, opened[-1]]


class OpenclDevice(LocalDevice):
    """An OpenCL device of this machine; measures one model at a time."""

    def __init__(self, platform: Platform, requested: str, lock: MeasuringLock) -> None:
        from netadapt.measure.tvm.opencl_run import first_device, is_gpu

        super().__init__(_DISTRIBUTION, platform, requested, lock)
        self._target = _target(platform)
        self._device = first_device()
        self._on_cpu = not is_gpu(self._device)
        self._context = _context(self._device)

    def model_program(self, model: Model) -> Program:
        """Compile, load and check a whole model; see `LocalDevice.model_program`.

        Raises:
            KernelInvalid: a result is not that of ONNX Runtime.

        """
        return self._prepared(model_bytes(model), inside=False, name=model_name(model))

    def workload_program(self, workload: Workload) -> tuple[Program, str]:
        """Compile the operation for images in the order that they have inside a network."""
        from netadapt.network.workload_onnx import workload_to_onnx

        return self._prepared(workload_to_onnx(workload), inside=True, name=str(workload)), "interior"

    def probe_program(self, workload: Workload) -> Program:
        """ONNX Runtime reads the speed of the core; PoCL runs on several."""
        from netadapt.measure.ort import OrtProgram
        from netadapt.network.workload_onnx import workload_to_onnx

        return OrtProgram(workload_to_onnx(workload))

    def profile(self, model: Model) -> list[LayerCost]:
        """Time of each kernel of a run; see `Device.profile`."""
        run = self._prepared(model_bytes(model), inside=False, name=model_name(model))
        with self.exclusive():
            runs = [run.kernel_times_ns() for _ in range(_PROFILED_RUNS)]
        kernels = [launch.kernel.removesuffix("_kernel") for launch in run.program.launches]
        times = [median(times) for times in zip(*runs, strict=True)]
        return [
            LayerCost(kernel, _operation(kernel), None, time_ns) for kernel, time_ns in zip(kernels, times, strict=True)
        ]

    def _source(self, run: Callable[[], Any], timing: Timing) -> BlockSource:
        from netadapt.measure.tvm.opencl_run import KernelSource

        return KernelSource(run, timing, self._core_speed if self._on_cpu else None)

    def _slowdown(self) -> float:
        return super()._slowdown() if self._on_cpu else 1.0

    def _prepared(self, model: bytes, inside: bool, name: str) -> OpenclRun:
        """Compile and load a model, and compare its result with that of ONNX Runtime."""
        from netadapt.measure.tvm.opencl_program import opencl_program
        from netadapt.measure.tvm.opencl_run import OpenclRun
        from netadapt.measure.tvm.reference import example, require_equal

        right = example(model, name)
        program = opencl_program(model, self._target, inside, name)
        run = OpenclRun(program, self._context, right.inputs, name)
        run.kernel_times_ns()
        require_equal(run.outputs(), [right.outputs[tensor.name] for tensor, _ in program.outputs], name)
        return run

    def _origin(self, form: str) -> Provenance:
        facts = _device_facts()
        return replace(super()._origin(form), machine=f"{facts['device']} ({facts['driver']})")


def _target(platform: Platform) -> TvmTarget:
    assert isinstance(platform.runtime, TvmRuntime)
    return platform.runtime.target


def _context(device: Any) -> Any:
    import pyopencl

    try:
        return pyopencl.Context([device])
    except pyopencl.Error as error:
        raise MeasurementError(f"cannot open the OpenCL device {device.name.strip()}: {error}") from error


def _device_facts() -> dict[str, str]:
    """Name and driver of the device; nothing where there is none.

    Not kept: a driver that could not start once, for want of memory or processes, may do so the next time.
    """
    from netadapt.measure.tvm.opencl_run import first_device

    try:
        device = first_device()
    except MeasurementError:
        return {}
    return {
        "device": device.name.strip(),
        "driver": f"{device.platform.name.strip()} {device.driver_version.strip()}",
        "pyopencl": version("pyopencl"),
    }


def _operation(kernel: str) -> str:
    """What TVM calls the first operation of a kernel: "conv2d" for "fused_conv2d3_add_relu"."""
    return kernel.removeprefix("fused_").split("_")[0].rstrip("0123456789")
