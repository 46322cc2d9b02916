"""A model in ONNX Runtime, inside the simulated machine."""

import json

import numpy as np
import onnxruntime
from marks import CLOCK, mark
from server import serve, timed_runs

_LINE = 64
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


class OrtProgram:
    """A session with its inputs and outputs bound: a run computes and copies nothing."""

    def __init__(self, request):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        if request["profile"]:
            mark(CLOCK)
            options.enable_profiling = True
            options.profile_file_prefix = "profile"
        self._request = request
        with open(request["files"][0], "rb") as file:
            model = file.read()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._binding = self._bind()

    def prepare(self):
        """Write the inputs, last, as the layer before does, after the memory that the outputs get."""
        for array in self._arrays:
            array.fill(0.5)

    def run(self):
        self._session.run_with_iobinding(self._binding)

    def profile(self):
        """Cycles of each node of one run, in the order of execution."""
        runs = timed_runs(self, self._request)
        with open(self._session.end_profiling()) as file:
            events = [event for event in json.load(file) if event["cat"] == "Node"]
        events = [event for event in events if event["name"].endswith("_kernel_time")]
        events = events[-(len(events) // runs) :]
        return [
            {"name": event["name"][: -len("_kernel_time")], "op": event["args"]["op_name"], "cycles": event["dur"]}
            for event in events
        ]

    def _bind(self):
        binding = self._session.io_binding()
        inputs = {value.name: _array(value.shape, _TYPES[value.type]) for value in self._session.get_inputs()}
        outputs = dict(self._results(inputs))
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._arrays = [*outputs.values(), *(array for array in inputs.values() if array.dtype.kind == "f")]
        return binding

    def _results(self, inputs):
        """Arrays like the outputs; the model is run for them only where its file does not tell their shapes."""
        for value in self._session.get_outputs():
            shape, kind = value.shape, _TYPES[value.type]
            if not all(isinstance(length, int) for length in shape):
                shape = self._session.run([value.name], inputs)[0].shape
            yield value.name, _array(shape, kind)


def _array(shape, kind):
    """Zeros that begin with a line of the cache, as ONNX Runtime's own tensors do."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


serve(OrtProgram)
