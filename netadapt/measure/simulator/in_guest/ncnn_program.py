"""A model in ncnn, inside the simulated machine."""

import ctypes
import time

import ncnn
import numpy as np
from marks import BEGIN, CLOCK, END, WARM_UP, mark
from server import serve

# The options of ncnn's own benchmark.
_FLOAT16 = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
_OFF = (
    "use_bf16_storage",
    "use_bf16_packed",
    "use_int8_inference",
    "use_int8_packed",
    "use_int8_storage",
    "use_int8_arithmetic",
    "use_vulkan_compute",
)
_ON = ("lightmode", "use_packing_layout", "use_winograd_convolution", "use_sgemm_convolution")

_BLOBS, _WORKSPACE = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
_BLOBS.set_size_compare_ratio(0.0)
_WORKSPACE.set_size_compare_ratio(0.5)
for _allocator in (_BLOBS, _WORKSPACE):
    # They must outlive every network and tensor, also when the interpreter ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_allocator))

#: A convolution of 16 channels: its output shows how many of them this core interleaves.
_WIDEST = "7767517\n2 2\nInput x 0 1 x\nConvolution c 1 1 x y 0=16 1=1 6=256\n"
_PACKINGS = (16, 8, 4)


class NcnnProgram:
    """A network with inputs of its own; all weights are 0, which changes no instruction."""

    def __init__(self, request):
        with open(request["files"][0]) as file:
            self._net = _load(file.read(), request["float16"])
        self._packed = request["packed"]
        self._widest = _widest_packing(request["float16"])
        inputs = enumerate(request["inputs"])
        self._inputs = [(name, self._tensor(tuple(shape), number)) for number, (name, shape) in inputs]
        self._outputs = request["outputs"]
        self._layers = request["layers"]

    def prepare(self):
        """Write inputs for a new extractor: it must be their only owner, or layers that work in place copy them."""
        self._extractor = self._net.create_extractor()
        for name, tensor in self._inputs:
            if self._extractor.input(name, tensor.clone(_BLOBS)):
                raise ValueError(f"ncnn has no input {name}")

    def run(self):
        for name in self._outputs:
            # As a network hands its result out, unpacked, or as one layer hands it to the next.
            code, self._result = self._extractor.extract(name, int(self._packed))
            if code:
                raise ValueError(f"ncnn could not compute {name} (code {code})")

    def profile(self):
        """Cycles of each layer of one run, in the order of execution."""
        self.prepare()
        self.run()
        # Small networks find their weights in the caches, as when they are timed.
        mark(WARM_UP)
        self.prepare()
        self.run()
        self.prepare()
        mark(CLOCK)
        mark(BEGIN)
        cycles = []
        for _, _, blob in self._layers:
            begin = time.monotonic_ns()
            self._extractor.extract(blob, 1)
            middle = time.monotonic_ns()
            # What is there already is only handed out: this is what the call itself takes.
            self._extractor.extract(blob, 1)
            # The plugin shows a cycle as a microsecond.
            cycles.append((2 * middle - begin - time.monotonic_ns()) // 1000)
        mark(END)
        return [{"name": name, "op": op, "cycles": spent} for (name, op, _), spent in zip(self._layers, cycles)]

    def _tensor(self, shape, number):
        values = np.random.default_rng(number).uniform(0.05, 1, shape).astype(np.float32)
        # Over numpy's memory a tensor counts no references; from another allocator it is copied when handed out.
        tensor = ncnn.Mat(values).clone(_BLOBS)
        if not self._packed:
            return tensor
        # ncnn's own rule (net.cpp).
        packing = next((one for one in _PACKINGS if one <= self._widest and shape[0] % one == 0), 1)
        return ncnn.convert_packing(tensor, packing).clone(_BLOBS) if packing > 1 else tensor


def _widest_packing(float16):
    extractor = _load(_WIDEST, float16).create_extractor()
    extractor.input("x", ncnn.Mat(np.zeros((16, 1, 1), np.float32)).clone())
    return extractor.extract("y", 1)[1].elempack


def _load(param, float16):
    net = ncnn.Net()
    for name in _FLOAT16:
        setattr(net.opt, name, float16)
    for name in _OFF:
        setattr(net.opt, name, False)
    for name in _ON:
        setattr(net.opt, name, True)
    net.opt.num_threads, net.opt.openmp_blocktime = 1, 0
    net.opt.blob_allocator, net.opt.workspace_allocator = _BLOBS, _WORKSPACE
    ncnn.set_omp_dynamic(0)
    ncnn.set_omp_num_threads(1)
    if net.load_param_mem(param):
        raise ValueError("ncnn lacks a layer of the network")
    if net.load_model(ncnn.DataReaderFromEmpty()):
        raise ValueError("ncnn cannot create a layer of the network")
    return net


serve(NcnnProgram)
