"""Runtime `ncnn`: the engine of many phone applications, here on the CPU of this machine.

Options are those of ncnn's own benchmark (benchmark/benchncnn.cpp) for float32. A workload is measured as it runs
inside a network (form "packed"): its input has, and its output keeps, the layout in which ncnn interleaves 4, 8 or
16 channels, and an activation that ncnn computes in place finds an input that it need not copy.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import ModelError
from netadapt.measure import machine
from netadapt.measure.device import Check, Device, Model
from netadapt.measure.local import LocalDevice, Program, activations, checks, version
from netadapt.measure.lock import MeasuringLock, machine_lock_path
from netadapt.measure.ncnn_model import NcnnModel, import_ncnn, onnx_to_ncnn, workload_to_ncnn
from netadapt.measure.platform import Platform
from netadapt.network.workload import Workload

_DISTRIBUTION = "ncnn"
_CONVERTER = "pnnx"
#: How workloads are prepared (layout, copies); changes the cost, so it is part of the fingerprint.
_PREPARATION = "packed-2,copies-1"
#: Operations that ncnn computes in the memory of their input.
_IN_PLACE = frozenset({"activation", "batch_norm"})
#: After so many runs on its own result, an activation gets a fresh input: HardSwish halves small numbers, and would
#: come to denormal ones, which are slow, after 120 runs.
_RUNS_IN_PLACE = 32

_ON = ("lightmode", "use_packing_layout", "use_winograd_convolution", "use_sgemm_convolution")
_OFF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_inference",
    "use_int8_packed",
    "use_int8_storage",
    "use_int8_arithmetic",
    "use_vulkan_compute",
)
#: What `Extractor.extract` takes to give a tensor in the plain layout, or in the layout that it has.
_PLAIN, _AS_COMPUTED = 0, 1
#: Name of the tensor that goes from run to run.
_AGAIN = "again"
#: Its output is interleaved as much as the CPU can do it.
_PROBE = NcnnModel(
    "7767517\n2 2\nInput x 0 1 x\nConvolution c 1 1 x y 0=16 1=1 6=256\n", bytes(4 + 4 * 256), (), ("y",)
)


def open_device(platform: Platform, requested: str, on_wait: Callable[[], None] | None) -> Device:
    """Open ncnn on this machine.

    Raises:
        MeasurementError: ncnn is not installed or does not load.

    """
    import_ncnn()
    return NcnnDevice(_DISTRIBUTION, platform, requested, MeasuringLock(machine_lock_path(), on_wait))


def identity(platform: Platform) -> dict[str, str]:
    """Versions of ncnn and of its converter, CPU model and the vector extension its kernels use."""
    return {
        "version": version(_DISTRIBUTION),
        "converter": version(_CONVERTER),
        "cpu": machine.cpu_model(),
        "vectors": machine.vector_extension(),
        "preparation": _PREPARATION,
    }


def check(platform: Platform) -> list[Check]:
    """Check that ncnn and pnnx are there, that there are cores enough, and that a run of nothing gives a time."""
    return checks(platform, [_DISTRIBUTION, _CONVERTER], lambda: open_device(platform, platform.name, None))


class NcnnDevice(LocalDevice):
    """ncnn on this machine; measures one model at a time."""

    def model_program(self, model: Model) -> Program:
        """Convert and load a whole model; see `LocalDevice.model_program`."""
        return NcnnProgram(onnx_to_ncnn(model), self.platform.runtime.threads)

    def workload_program(self, workload: Workload) -> tuple[Callable[[], Program], str]:
        """Load the operation with packed inputs and outputs; see `LocalDevice.workload_program`."""
        model = workload_to_ncnn(workload)
        threads, in_place = self.platform.runtime.threads, workload.op in _IN_PLACE
        return lambda: NcnnProgram(model, threads, packed=True, in_place=in_place), "packed"

    def gauge_program(self, workload: Workload) -> Program:
        """Load the operation; see `LocalDevice.gauge_program`."""
        return NcnnProgram(workload_to_ncnn(workload), packed=True)


class NcnnProgram:
    """A network that is loaded, with inputs that are ready.

    Args:
        model: the network.
        threads: how many ncnn uses.
        packed: feed inputs, and leave outputs, in the layout that they have inside a network.
        in_place: the network has one input and computes its output in the memory of it. Then the output of a run is
            the input of the next, because ncnn copies an input that somebody else holds.

    Raises:
        ModelError: ncnn cannot load it, or cannot run it.

    """

    def __init__(self, model: NcnnModel, threads: int = 1, packed: bool = False, in_place: bool = False) -> None:
        self._net = _Net(model, threads)
        self._input, self._outputs = model.inputs[0][0], model.outputs
        self._type = _AS_COMPUTED if packed else _PLAIN
        random = np.random.default_rng(0)
        arrays = {name: activations(random, shape).astype(np.float32) for name, shape in model.inputs}
        for name, array in arrays.items():
            self._net.keep(name, _packed(array) if packed else _tensor(array))
        outputs = self.compute()
        #: Memory that a run touches: weights, inputs and outputs.
        self.bytes = len(model.weights) + sum(array.nbytes for array in [*arrays.values(), *outputs])
        self._runs_left = 0
        self._run: Callable[[], None] = self._run_in_place if in_place else self._run_on_inputs

    def __call__(self) -> None:
        """Run the network once."""
        self._run()

    def compute(self, inputs: dict[str, NDArray[np.float32]] | None = None) -> list[NDArray[np.float32]]:
        """The outputs for the given inputs, both in the plain layout: images [C, H, W], features [C].

        Raises:
            ModelError: ncnn cannot run the network, or has no such input.

        """
        tensors = {name: _tensor(array) for name, array in inputs.items()} if inputs else self._net.tensors
        return [tensor.numpy().copy() for tensor in self._net.run(tensors, self._outputs)]

    def _run_on_inputs(self) -> None:
        with self._net.extractor() as extractor:
            for name, tensor in self._net.tensors.items():
                extractor.input(name, tensor)
            for name in self._outputs:
                extractor.extract(name, self._type)

    def _run_in_place(self) -> None:
        tensors = self._net.tensors
        if not self._runs_left:
            self._net.keep(_AGAIN, tensors[self._input])
            self._runs_left = _RUNS_IN_PLACE
        with self._net.extractor() as extractor:
            # Popped, it belongs to the extractor alone.
            extractor.input(self._input, tensors.pop(_AGAIN))
            tensors[_AGAIN] = extractor.extract(self._outputs[0], self._type)[1]
        self._runs_left -= 1


class _Net:
    """A network and its tensors, which are given back in an order that ncnn survives.

    An allocator must outlive all that it allocated, else the process crashes; Python, at its end, would drop them in
    any order. So tensors live here or in an extractor that is left by `with`.
    """

    def __init__(self, model: NcnnModel, threads: int = 1) -> None:
        ncnn = import_ncnn()
        net, blobs, workspace = ncnn.Net(), ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        self.tensors: dict[str, Any] = {}
        self._blobs = blobs
        weakref.finalize(self, _give_back, self.tensors, net, (blobs, workspace))
        blobs.set_size_compare_ratio(0.0)
        workspace.set_size_compare_ratio(0.5)
        options = net.opt
        for name in _ON:
            setattr(options, name, True)
        for name in _OFF:
            setattr(options, name, False)
        options.num_threads, options.openmp_blocktime = threads, 0
        options.blob_allocator, options.workspace_allocator = blobs, workspace
        ncnn.set_omp_dynamic(0)
        ncnn.set_omp_num_threads(threads)
        _load(net, model)
        self.extractor: Callable[[], Any] = net.create_extractor

    def keep(self, name: str, tensor: Any) -> None:
        """Copy a tensor to where the network has its own; extracting others costs a copy when they come out again."""
        self.tensors[name] = tensor.clone(self._blobs)

    def run(self, tensors: dict[str, Any], outputs: tuple[str, ...], kind: int = _PLAIN) -> list[Any]:
        """Copies of the outputs for inputs by name.

        Raises:
            ModelError: ncnn cannot run the network, or has no such input or output.

        """
        with self.extractor() as extractor:
            for name, tensor in tensors.items():
                _succeed(extractor.input(name, tensor), f"ncnn knows no input {name!r} of the network")
            return [_extracted(extractor, name, kind) for name in outputs]


def _extracted(extractor: Any, name: str, kind: int) -> Any:
    code, tensor = extractor.extract(name, kind)
    _succeed(code, f"ncnn fails to compute the output {name!r} of the network (code {code})")
    return tensor.clone()


def _load(net: Any, model: NcnnModel) -> None:
    _succeed(net.load_param_mem(model.param), "ncnn cannot read the layers of the network")
    # From a file, because load_model_mem keeps a pointer into memory that the binding has freed by then.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        path.write_bytes(model.weights)
        _succeed(net.load_model(str(path)), "ncnn cannot read the weights of the network")


def _give_back(tensors: dict[str, Any], net: Any, allocators: tuple[Any, ...]) -> None:
    tensors.clear()
    net.clear()
    for allocator in allocators:
        allocator.clear()


def _tensor(array: NDArray[np.float32]) -> Any:
    """A copy, because a tensor that lies in numpy's memory has no count of its owners, which ncnn needs."""
    return import_ncnn().Mat(np.ascontiguousarray(array)).clone()


def _packed(array: NDArray[np.float32]) -> Any:
    """In the layout that a layer before would have left it in: net.cpp, `convert_layout`."""
    tensor, most = _tensor(array), _most_interleaved()
    for channels in (16, 8, 4):
        if channels <= most and len(array) % channels == 0:
            return import_ncnn().convert_packing(tensor, channels)
    return tensor


@cache
def _most_interleaved() -> int:
    """How many channels this CPU interleaves: 16 with AVX-512, 8 with AVX, 4 with SSE and NEON."""
    probe = _tensor(np.zeros((16, 1, 1), np.float32))
    return int(_Net(_PROBE).run({"x": probe}, _PROBE.outputs, _AS_COMPUTED)[0].elempack)


def _succeed(code: int, what: str) -> None:
    if code:
        raise ModelError(what)
