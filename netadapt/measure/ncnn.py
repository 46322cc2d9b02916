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
from netadapt.measure.lock import MeasuringLock, OnWait, machine_lock_path
from netadapt.measure.ncnn_model import NcnnModel, import_ncnn, onnx_to_ncnn, workload_to_ncnn
from netadapt.measure.platform import Platform
from netadapt.network.workload import Workload

_DISTRIBUTION = "ncnn"
_CONVERTER = "pnnx"
#: How workloads are prepared (layout, copies); changes the cost, so it is part of the fingerprint.
_PREPARATION = "packed-1,copies-1"
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


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
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

    def workload_program(self, workload: Workload) -> tuple[Program, str]:
        """Load the operation with packed inputs and outputs; see `LocalDevice.workload_program`."""
        model = workload_to_ncnn(workload)
        in_place = workload.op in _IN_PLACE
        return NcnnProgram(model, self.platform.runtime.threads, packed=True, in_place=in_place), "packed"

    def probe_program(self, workload: Workload) -> Program:
        """Load the operation; see `LocalDevice.probe_program`."""
        return NcnnProgram(workload_to_ncnn(workload), packed=True)


class NcnnProgram:
    """A network that is loaded, with inputs that are ready.

    Args:
        model: the network.
        threads: how many ncnn uses.
        packed: feed inputs, and leave outputs, in the layout that they have inside a network.
        in_place: the network has one input and computes its output in the memory of it. Then the output of a run is
            the input of the next, because ncnn copies an input that somebody else holds.
        memory: of a program of the same model, whose inputs are then used; for `another`.

    Raises:
        ModelError: ncnn cannot load it, or cannot run it.

    """

    def __init__(
        self,
        model: NcnnModel,
        threads: int = 1,
        packed: bool = False,
        in_place: bool = False,
        memory: _Memory | None = None,
    ) -> None:
        self._arguments = (model, threads, packed, in_place)
        self._names = [name for name, _ in model.inputs]
        self._outputs = model.outputs
        self._layout = _AS_COMPUTED if packed else _PLAIN
        self._memory = memory or _memory_with_inputs(model, packed)
        self._extractor = self._memory.load(model, threads)
        #: The weights. Inputs and outputs are not counted: in a network they are some other layer's outputs and inputs,
        #: and in the cache already.
        self.bytes = len(model.weights)
        self._runs_left = 0
        self._run = self._run_in_place if in_place else self._run_on_inputs
        self.compute()

    def __call__(self) -> None:
        """Run the network once."""
        self._run()

    def another(self) -> NcnnProgram:
        """Load the network again, with weights of its own and the same inputs."""
        return NcnnProgram(*self._arguments, memory=self._memory)

    def compute(self, inputs: dict[str, NDArray[np.float32]] | None = None) -> list[NDArray[np.float32]]:
        """The outputs, for other inputs if given, all in the plain layout: images [C, H, W], features [C].

        Raises:
            ModelError: ncnn cannot run the network, or knows no such input.

        """
        if inputs is None:
            tensors = {name: self._memory.tensors[name] for name in self._names}
        else:
            tensors = {name: _tensor(array) for name, array in inputs.items()}
        return [tensor.numpy().copy() for tensor in _outputs(self._extractor, tensors, self._outputs)]

    def _run_on_inputs(self) -> None:
        tensors = self._memory.tensors
        with self._extractor() as extractor:
            for name in self._names:
                extractor.input(name, tensors[name])
            for name in self._outputs:
                extractor.extract(name, self._layout)

    def _run_in_place(self) -> None:
        tensors = self._memory.tensors
        if not self._runs_left:
            self._memory.keep(_AGAIN, tensors[self._names[0]])
            self._runs_left = _RUNS_IN_PLACE
        with self._extractor() as extractor:
            # Popped, it belongs to the extractor alone.
            extractor.input(self._names[0], tensors.pop(_AGAIN))
            tensors[_AGAIN] = extractor.extract(self._outputs[0], self._layout)[1]
        self._runs_left -= 1


class _Memory:
    """Networks with the memory for their tensors, all given back in an order that ncnn survives.

    An allocator must outlive all that it allocated, else the process crashes; Python, at its end, would drop them in
    any order. So tensors live here, or in an extractor that is left by `with`.
    """

    def __init__(self) -> None:
        ncnn = import_ncnn()
        self._blobs, self._workspace = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        self._blobs.set_size_compare_ratio(0.0)
        self._workspace.set_size_compare_ratio(0.5)
        self._nets: list[Any] = []
        self.tensors: dict[str, Any] = {}
        weakref.finalize(self, _give_back, self.tensors, self._nets, (self._blobs, self._workspace))

    def keep(self, name: str, tensor: Any) -> None:
        """Copy a tensor to where the networks have theirs: what is not from there, extracting would copy each time."""
        self.tensors[name] = tensor.clone(self._blobs)

    def load(self, model: NcnnModel, threads: int = 1) -> Callable[[], Any]:
        """Load a network; the result makes extractors, each for one run."""
        ncnn = import_ncnn()
        net = ncnn.Net()
        self._nets.append(net)
        for name in _ON:
            setattr(net.opt, name, True)
        for name in _OFF:
            setattr(net.opt, name, False)
        net.opt.num_threads, net.opt.openmp_blocktime = threads, 0
        net.opt.blob_allocator, net.opt.workspace_allocator = self._blobs, self._workspace
        ncnn.set_omp_dynamic(0)
        ncnn.set_omp_num_threads(threads)
        _succeed(net.load_param_mem(model.param), "ncnn cannot read the layers of the network")
        # From a file, because load_model_mem keeps a pointer into memory that the binding has freed by then.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.bin"
            path.write_bytes(model.weights)
            _succeed(net.load_model(str(path)), "ncnn cannot read the weights of the network")
        extractor: Callable[[], Any] = net.create_extractor
        return extractor


def _give_back(tensors: dict[str, Any], nets: list[Any], allocators: tuple[Any, ...]) -> None:
    tensors.clear()
    for net in nets:
        net.clear()
    for allocator in allocators:
        allocator.clear()


def _memory_with_inputs(model: NcnnModel, packed: bool) -> _Memory:
    memory, random = _Memory(), np.random.default_rng(0)
    for name, shape in model.inputs:
        tensor = _tensor(activations(random, shape).astype(np.float32))
        memory.keep(name, _packed(tensor, shape[0]) if packed else tensor)
    return memory


def _tensor(array: NDArray[np.float32]) -> Any:
    """A copy, because a tensor that lies in numpy's memory has no count of its owners, which ncnn needs."""
    return import_ncnn().Mat(np.ascontiguousarray(array)).clone()


def _packed(tensor: Any, channels: int) -> Any:
    """In the layout in which a layer before would have left it (`convert_layout` in ncnn's net.cpp)."""
    most = _most_interleaved()
    for together in (16, 8, 4):
        if together <= most and channels % together == 0:
            return import_ncnn().convert_packing(tensor, together)
    return tensor


@cache
def _most_interleaved() -> int:
    """How many channels ncnn interleaves on this CPU: 16 with AVX-512, 8 with AVX, 4 with SSE and NEON."""
    memory = _Memory()
    tensors = {"x": _tensor(np.zeros((16, 1, 1), np.float32))}
    return int(_outputs(memory.load(_PROBE), tensors, _PROBE.outputs, _AS_COMPUTED)[0].elempack)


def _outputs(
    make_extractor: Callable[[], Any], tensors: dict[str, Any], names: tuple[str, ...], layout: int = _PLAIN
) -> list[Any]:
    """Copies of the outputs of those names.

    Raises:
        ModelError: ncnn cannot run the network, or has no such input or output.

    """
    with make_extractor() as extractor:
        for name, tensor in tensors.items():
            _succeed(extractor.input(name, tensor), f"ncnn knows no input {name!r} of the network")
        return [_extracted(extractor, name, layout) for name in names]


def _extracted(extractor: Any, name: str, layout: int) -> Any:
    code, tensor = extractor.extract(name, layout)
    _succeed(code, f"ncnn fails to compute the output {name!r} of the network (code {code})")
    return tensor.clone()


def _succeed(code: int, what: str) -> None:
    if code:
        raise ModelError(what)
