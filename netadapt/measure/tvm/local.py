"""Runtime `tvm` on the CPU of this machine.

A workload is compiled as it runs inside a network, where images are `[N, H, W, C]`, and timed with weights that other
layers have pushed out of the cache (see `local.py` of the package above).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netadapt.measure import machine
from netadapt.measure.device import Check, Device, Model
from netadapt.measure.local import LocalDevice, Program, checks, in_turn
from netadapt.measure.lock import MeasuringLock, OnWait, machine_lock_path
from netadapt.measure.model_file import model_bytes, model_name
from netadapt.measure.platform import Platform, TvmRuntime
from netadapt.measure.protocol import BlockSource
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.measure.tvm.compile import DISTRIBUTIONS, compile_model, require_tvm, tuning_identity
from netadapt.measure.tvm.compile import identity as compiler_identity
from netadapt.measure.tvm.library import ENTRY, Library
from netadapt.measure.tvm.reference import Example, example, require_equal
from netadapt.network.workload import Workload


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
    """Open TVM on this machine.

    Raises:
        MeasurementError: TVM is not installed or does not load.

    """
    require_tvm()
    return TvmLocalDevice(platform, requested, MeasuringLock(machine_lock_path(), on_wait))


def identity(platform: Platform) -> dict[str, str]:
    """Versions of TVM and of the kernels, and the CPU that they are compiled for."""
    assert isinstance(platform.runtime, TvmRuntime)
    compiler = compiler_identity("llvm") | tuning_identity(platform.runtime)
    return {**compiler, "cpu": machine.cpu_model(), "vectors": machine.vector_extension()}


def check(platform: Platform) -> list[Check]:
    """Check that TVM is there, and that a run of nothing gives a time."""
    return checks(platform, DISTRIBUTIONS, lambda: open_device(platform, platform.name, None))


class TvmLocalDevice(LocalDevice):
    """Code that TVM compiled, on this machine; measures one model at a time."""

    def __init__(self, platform: Platform, requested: str, lock: MeasuringLock) -> None:
        super().__init__(DISTRIBUTIONS[0], platform, requested, lock)
        assert isinstance(platform.runtime, TvmRuntime)
        self._runtime = platform.runtime
        #: The model that was compiled last: it is often asked for again.
        self._compiled: tuple[tuple[bytes, bool], Library] | None = None

    def model_program(self, model: Model) -> Program:
        """Compile and load a whole model; see `LocalDevice.model_program`."""
        return self._program(model_bytes(model), interior=False, name=model_name(model))

    def workload_program(self, workload: Workload) -> tuple[Program, str]:
        """Compile and load one operation; see `LocalDevice.workload_program`."""
        from netadapt.network.workload_onnx import workload_to_onnx

        return self._program(workload_to_onnx(workload), interior=True, name=str(workload)), "interior"

    def probe_program(self, workload: Workload) -> Program:
        """As `workload_program`."""
        return self.workload_program(workload)[0]

    @contextmanager
    def load_library(self, checked: CheckedLibrary, name: str) -> Iterator[BlockSource]:
        """Load compiled code, to be timed as an operation is.

        Raises:
            KernelInvalid: it gives another result than it should.

        """
        program = TvmProgram(checked.library, checked.example, name)
        yield self._source(in_turn(program), self.platform.workload_timing())

    def details(self, model: Model) -> dict[str, Any]:
        """Which kernels none of our schedules fits, and how near the result is to ONNX Runtime's."""
        program = self._program(model_bytes(model), interior=False, name=model_name(model))
        return {"general_kernels": list(program.library.general_kernels), "max_abs_difference": program.difference}

    def _program(self, model: bytes, interior: bool, name: str) -> TvmProgram:
        right = example(model, name)
        if self._compiled is None or self._compiled[0] != (model, interior):
            self._compiled = ((model, interior), compile_model(model, self._runtime, interior, name))
        return TvmProgram(self._compiled[1], right, name)


class TvmProgram:
    """A library that is loaded, with its inputs set; the first run is compared with ONNX Runtime's result.

    Raises:
        KernelInvalid: the result is another one.

    """

    def __init__(self, library: Library, right: Example, name: str) -> None:
        import tvm
        from tvm import relax

        self.library = library
        self._right = right
        self._name = name
        with tempfile.TemporaryDirectory(prefix="netadapt-tvm-") as folder:
            path = Path(folder) / "model.so"
            path.write_bytes(library.content)
            # The file may go once it is mapped.
            module = tvm.runtime.load_module(str(path))
        self._machine = relax.VirtualMachine(module, tvm.cpu())
        inputs = [tvm.runtime.tensor(tensor.to_device(right.inputs[tensor.name])) for tensor in library.inputs]
        self._machine.set_input(ENTRY, *inputs)
        self._invoke = self._machine.module["invoke_stateful"]
        self()
        self.difference = self._compare()
        arrays = [*right.inputs.values(), *right.outputs.values()]
        #: Memory that a run touches: weights, inputs and outputs.
        self.bytes = len(library.content) + sum(array.nbytes for array in arrays)

    def __call__(self) -> None:
        """Run the model once."""
        self._invoke(ENTRY)

    def another(self) -> TvmProgram:
        """Load the library a second time, with memory of its own."""
        return TvmProgram(self.library, self._right, self._name)

    def _compare(self) -> float:
        found = self._machine.get_outputs(ENTRY)
        arrays = [found] if len(self.library.outputs) == 1 else list(found)
        plain = [tensor.from_device(array.numpy()) for tensor, array in zip(self.library.outputs, arrays, strict=True)]
        return require_equal(plain, [self._right.outputs[tensor.name] for tensor in self.library.outputs], self._name)
