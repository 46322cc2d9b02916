"""Runtime `ort`: ONNX Runtime on the CPU of this machine.

A workload is measured as it runs inside a network: in the layout and with the fusions it has there (see `interior.py`;
form "interior", or "model" where that is not possible), and with weights that other layers have pushed out of the
cache.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import MeasurementError, ModelError, NetAdaptError, reason_of
from netadapt.measure import machine
from netadapt.measure.device import Check, Device, Model
from netadapt.measure.local import LocalDevice, Program, activations, checks, version
from netadapt.measure.lock import MeasuringLock, OnWait, machine_lock_path
from netadapt.measure.model_file import model_name, require_model_file
from netadapt.measure.platform import Platform
from netadapt.network.workload import Workload

_DISTRIBUTION = "onnxruntime"
#: How workloads are prepared (layout, copies); changes the cost, so it is part of the fingerprint.
_PREPARATION = "interior-2,copies-1"
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
#: Of one input; to fill it takes several times as much.
_MOST_INPUT_BYTES = 1 << 30


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
    """Open ONNX Runtime on this machine.

    Raises:
        MeasurementError: onnxruntime is not installed or does not load.

    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MeasurementError(
            f"platform {platform.name} needs onnxruntime ({error}); install it with: pip install onnxruntime"
        ) from error
    return OrtDevice(platform, requested, MeasuringLock(machine_lock_path(), on_wait))


def identity(platform: Platform) -> dict[str, str]:
    """Version of ONNX Runtime, CPU model and the vector extension its kernels use."""
    return {
        "version": version(_DISTRIBUTION),
        "cpu": machine.cpu_model(),
        "vectors": machine.vector_extension(),
        "preparation": _PREPARATION,
    }


def check(platform: Platform) -> list[Check]:
    """Check that ONNX Runtime is there, that there are cores enough, and that a run of nothing gives a time."""
    return checks(platform, [_DISTRIBUTION], lambda: open_device(platform, platform.name, None))


class OrtDevice(LocalDevice):
    """ONNX Runtime on this machine; measures one model at a time."""

    def __init__(self, platform: Platform, requested: str, lock: MeasuringLock) -> None:
        super().__init__(_DISTRIBUTION, platform, requested, lock)
        self._block = _block_channels()

    def model_program(self, model: Model) -> Program:
        """Open a session for a whole model; see `LocalDevice.model_program`."""
        return OrtProgram(model, self.platform.runtime.threads)

    def workload_program(self, workload: Workload) -> tuple[Program, str]:
        """Make the operation what it is inside a network; see `LocalDevice.workload_program`."""
        from netadapt.network.workload_onnx import workload_to_onnx

        model = workload_to_onnx(workload)
        inner = self._interior(model, workload)
        program = OrtProgram(inner or model, self.platform.runtime.threads, optimise=inner is None)
        return program, "interior" if inner else "model"

    def probe_program(self, workload: Workload) -> Program:
        """Open a session for an operation as it stands; see `LocalDevice.probe_program`."""
        from netadapt.network.workload_onnx import workload_to_onnx

        return OrtProgram(workload_to_onnx(workload))

    def _interior(self, model: bytes, workload: Workload) -> bytes | None:
        from netadapt.measure.interior import interior, with_neighbours

        return interior(optimised(with_neighbours(model, workload)), workload, self._block)


class OrtProgram:
    """A session with its inputs and outputs bound, so that a call computes and copies nothing.

    Raises:
        ModelError: not a model, an invalid one, or inputs without a fixed shape.
        MeasurementError: an operator that ONNX Runtime does not have.

    """

    def __init__(self, model: Model, threads: int = 1, optimise: bool = True) -> None:
        self._arguments = (model, threads, optimise)
        self._name = model_name(model)
        self._session = _session(model, _options(threads, optimise), self._name)
        #: Memory that a run touches: weights, inputs and outputs.
        self.bytes = model.stat().st_size if isinstance(model, Path) else len(model)
        try:
            self._binding = self._bind()
        except NetAdaptError:
            raise
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # names and shapes of a damaged model
            raise ModelError(f"{self._name}: its inputs and outputs cannot be used: {reason_of(error)}") from error

    def __call__(self) -> None:
        """Run the model once."""
        self._session.run_with_iobinding(self._binding)

    def another(self) -> OrtProgram:
        """Open a second session for the model, with its own weights, inputs and outputs."""
        return OrtProgram(*self._arguments)

    def _bind(self) -> Any:
        """Bind memory that ONNX Runtime allocates: aligned as its own tensors inside a network are."""
        from onnxruntime import OrtValue

        random = np.random.default_rng(0)
        feeds = {value.name: _random_input(random, value, self._name) for value in self._session.get_inputs()}
        binding = self._session.io_binding()
        for name, array in feeds.items():
            tensor = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
            tensor.update_inplace(array)
            binding.bind_ortvalue_input(name, tensor)
            self.bytes += array.nbytes
        for name, array in self._first_run(feeds).items():
            tensor = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
            binding.bind_ortvalue_output(name, tensor)
            self.bytes += array.nbytes
        return binding

    def _first_run(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once to learn the real shapes of the outputs, and that the model runs at all."""
        outputs = self._session.get_outputs()
        for value in outputs:
            if value.type not in _TYPES:
                raise ModelError(f"{self._name}: output {value.name!r} has type {value.type}, which cannot be measured")
        names = [value.name for value in outputs]
        try:
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ModelError(f"{self._name}: fails when it is run: {reason_of(error)}") from error


def optimised(model: bytes) -> bytes:
    """Save the model as ONNX Runtime runs it: fused, and in the layout of this CPU.

    Raises:
        ModelError, MeasurementError: as `OrtProgram`.

    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = _options(threads=1, optimise=True)
        options.optimized_model_filepath = str(path)
        _session(model, options, "model")
        return path.read_bytes()


def _options(threads: int, optimise: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    # Nothing: errors are raised, and saving an optimised model warns that it fits this machine alone, which is meant.
    options.log_severity_level = 4
    return options


def _session(model: Model, options: Any, name: str) -> Any:
    import onnxruntime

    if isinstance(model, Path):
        require_model_file(model)
    source = str(model) if isinstance(model, Path) else model
    try:
        with redirect_stdout(StringIO()):  # where the retry without the failing provider is announced
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        runtime = f"onnxruntime {version(_DISTRIBUTION)}"
        if type(error).__name__ == "NotImplemented":
            raise MeasurementError(f"{name}: {runtime} cannot run it: {reason_of(error)}") from error
        raise ModelError(f"{name}: not a model that {runtime} can load: {reason_of(error)}") from error


def _random_input(random: np.random.Generator, value: Any, name: str) -> NDArray[Any]:
    if value.type not in _TYPES:
        raise ModelError(f"{name}: input {value.name!r} has type {value.type}, which cannot be filled")
    if not all(isinstance(length, int) and length > 0 for length in value.shape):
        raise ModelError(
            f"{name}: input {value.name!r} has the dynamic shape {value.shape}; export it with a fixed shape"
        )
    kind = np.dtype(_TYPES[value.type])
    if (size := math.prod(value.shape) * kind.itemsize) > _MOST_INPUT_BYTES:
        raise ModelError(
            f"{name}: input {value.name!r} of shape {value.shape} takes {size / 2**30:,.1f} GiB; at most "
            f"{_MOST_INPUT_BYTES >> 30} GiB can be measured"
        )
    if kind.kind != "f":
        # Zero is a valid index, class and flag.
        return np.zeros(value.shape, kind)
    return np.asarray(activations(random, value.shape)).astype(kind)


def _block_channels() -> int:
    from netadapt.measure.interior import block_channels
    from netadapt.network.workload_onnx import workload_to_onnx

    return block_channels(optimised(workload_to_onnx(Workload("conv", (1,), 1))))
