"""OpenCL programs on this machine: what runs them, and how long their kernels take by its own clock."""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import ClockZero, MeasurementError
from netadapt.measure import statistics
from netadapt.measure.core_speed import CoreSpeed
from netadapt.measure.protocol import Block, Timing
from netadapt.measure.tvm.library import Tensor

if TYPE_CHECKING:
    from netadapt.measure.tvm.opencl_program import OpenclProgram

_INSTALL = "pip install '.[opencl]' in a clone of netadapt"


def first_device() -> Any:
    """The first GPU of this machine's OpenCL, or else the first device of another kind.

    Raises:
        MeasurementError: pyopencl is not installed, there is no implementation of OpenCL, or it cannot build kernels
            for the device.

    """
    try:
        import pyopencl
    except ImportError as error:
        raise MeasurementError(f"running OpenCL needs pyopencl ({error}); install it with: {_INSTALL}") from error
    try:
        devices = [device for platform in pyopencl.get_platforms() for device in platform.get_devices()]
    except pyopencl.Error:
        devices = []
    if not devices:
        raise MeasurementError(
            "there is no OpenCL on this machine; install its driver, or one that runs on the CPU (PoCL) with:"
            f" {_INSTALL}"
        )
    first = next((device for device in devices if is_gpu(device)), devices[0])
    _require_compiler(first)
    return first


def _require_compiler(device: Any) -> None:
    """Build the least kernel there is: a compiler that is older than the processor fails at any (pocl/pocl#1049)."""
    import pyopencl

    try:
        trial = pyopencl.Program(pyopencl.Context([device]), "kernel void nothing() {}")
        trial.build(cache_dir=False)  # type: ignore[arg-type]
    except pyopencl.Error as error:
        reason = next((line for line in str(error).splitlines() if line.startswith("error:")), str(error))
        raise MeasurementError(
            f"the OpenCL of {device.name.strip()} cannot build kernels ({reason}); if its compiler does not know the"
            " processor, install a newer one, such as your system's package of PoCL"
        ) from error


def is_gpu(device: Any) -> bool:
    """Whether a device is a GPU; PoCL's is a CPU."""
    import pyopencl

    return bool(device.type & pyopencl.device_type.GPU)


class OpenclRun:
    """A program that is loaded, with inputs; a call runs it once and gives the time of its kernels in ns.

    Args:
        program: the program.
        context: a context of pyopencl, for one device.
        inputs: the inputs by name, in the shapes of the ONNX file.
        name: what errors call the model.

    Raises:
        MeasurementError: the program does not fit into the device's memory, or its kernels cannot be built.

    """

    def __init__(
        self, program: OpenclProgram, context: Any, inputs: Mapping[str, NDArray[Any]], name: str = "model"
    ) -> None:
        import pyopencl

        self._arguments = (program, context, inputs, name)
        self.program, self._name = program, name
        self._device = context.devices[0]
        _require_memory(program, self._device, name)
        properties = pyopencl.command_queue_properties.PROFILING_ENABLE
        with self._errors():
            self._queue = pyopencl.CommandQueue(context, properties=properties)
            self._memories = [
                pyopencl.Buffer(context, pyopencl.mem_flags.READ_WRITE, max(size, 1)) for size in program.memories
            ]
            for number, array in program.constants.items():
                pyopencl.enqueue_copy(self._queue, self._memories[number], array)
            for tensor, number in program.inputs:
                pyopencl.enqueue_copy(self._queue, self._memories[number], tensor.to_device(inputs[tensor.name]))
        self._kernels = self._build(context)
        #: Weights: what a run does not share with runs of other layers of its network.
        self.bytes = program.constant_bytes

    def __call__(self) -> int:
        """Run the program once; gives the time of its kernels in ns.

        Raises:
            ClockZero: the device says that the kernels took no time.
            MeasurementError: a kernel cannot be started, or fails.

        """
        cost = sum(self.kernel_times_ns())
        if cost <= 0:
            raise ClockZero(f"{self._name}: {self._device.name.strip()} says that its kernels took {cost} ns")
        return cost

    def another(self) -> OpenclRun:
        """Load the same program again, with memory of its own."""
        return OpenclRun(*self._arguments)

    def kernel_times_ns(self) -> list[int]:
        """Run the program once; gives the time of each kernel, in the order of execution.

        Raises:
            MeasurementError: a kernel cannot be started, or fails.

        """
        import pyopencl

        with self._errors():
            events = [
                pyopencl.enqueue_nd_range_kernel(self._queue, kernel, launch.global_size, launch.items)
                for kernel, launch in zip(self._kernels, self.program.launches, strict=True)
            ]
            self._queue.finish()
            return [event.profile.end - event.profile.start for event in events]

    def outputs(self) -> list[NDArray[Any]]:
        """What the last run computed, in the order and the shapes of the ONNX file."""
        return [self._read(tensor, number) for tensor, number in self.program.outputs]

    def _read(self, tensor: Tensor, number: int) -> NDArray[Any]:
        import pyopencl

        there = np.empty([tensor.shape[axis] for axis in tensor.axes], tensor.dtype)
        with self._errors():
            pyopencl.enqueue_copy(self._queue, there, self._memories[number])
        return tensor.from_device(there)

    def _build(self, context: Any) -> list[Any]:
        import pyopencl

        if not self.program.launches:
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pyopencl.CompilerWarning)
                # pyopencl's own cache would only repeat that of the implementation.
                built = pyopencl.Program(context, self.program.source).build(cache_dir=False)  # type: ignore[arg-type]
        except pyopencl.Error as error:
            raise MeasurementError(
                f"{self._name}: {self._device.name.strip()} cannot build the kernels: {error}"
            ) from error
        with self._errors():
            kernels = [pyopencl.Kernel(built, launch.kernel) for launch in self.program.launches]
            for kernel, launch in zip(kernels, self.program.launches, strict=True):
                kernel.set_args(*(self._memories[number] for number in launch.arguments))
        return kernels

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import pyopencl

        try:
            yield
        except pyopencl.Error as error:
            raise MeasurementError(f"{self._name}: cannot be run on {self._device.name.strip()}: {error}") from error


class KernelSource:
    """Blocks of runs whose cost is told by the device's clock, so that starting kernels is not counted.

    Args:
        run: gives the cost of a run in ns.
        timing: parameters of the protocol.
        core_speed: judges the core, where kernels run on the cores of this machine; a block does not count when one
            of those was taken away meanwhile.

    """

    def __init__(self, run: Callable[[], int], timing: Timing, core_speed: CoreSpeed | None) -> None:
        self._run = run
        self._timing = timing
        self._core_speed = core_speed
        self._runs = 1

    def warm_up(self) -> None:
        """Run blocks until two medians in a row agree, for half the time limit at most."""
        timing = self._timing
        deadline = time.perf_counter_ns() + timing.time_limit_ns // 2
        # The first run compiles what the implementation has put off.
        self._run()
        start = time.perf_counter_ns()
        self._run()
        self._runs = max(1, timing.block_ns // (time.perf_counter_ns() - start))
        before = cost = self._median()
        while time.perf_counter_ns() < deadline:
            before, cost = cost, self._median()
            if abs(cost - before) <= timing.warmup_agreement * before:
                break

    def block(self) -> Block:
        """Time one block of runs, in ns a run."""
        before = _preemptions()
        cost = sum(self._run() for _ in range(self._runs)) / self._runs
        undisturbed = before == _preemptions()
        usual = self._core_speed is None or (self._core_speed.is_usual() and undisturbed)
        return Block(cost, usual, wall_ns=cost * self._runs)

    def _median(self) -> float:
        return statistics.median([self.block().cost for _ in range(self._timing.warmup_samples)])


def _preemptions() -> int:
    """How often the scheduler has taken a core away from a thread of this process: PoCL's work in several."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _require_memory(program: OpenclProgram, device: Any, name: str) -> None:
    most, total = max(program.memories, default=0), sum(program.memories)
    for needed, what, limit in (
        (most, "a buffer", device.max_mem_alloc_size),
        (total, "memory", device.global_mem_size),
    ):
        if needed > limit:
            raise MeasurementError(
                f"{name}: needs {what} of {needed:,} bytes; {device.name.strip()} has at most {limit:,}; take a smaller"
                " network or image"
            )
