"""A model in ONNX Runtime, inside the simulated machine."""

import json

import numpy as np
import onnxruntime
from marks import CLOCK, mark
from server import serve, timed_runs

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
        levels = onnxruntime.GraphOptimizationLevel
        optimise = request.get("optimise", True)
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        if request["profile"]:
            mark(CLOCK)
            options.enable_profiling = True
            options.profile_file_prefix = "profile"
        if request.get("optimised"):
            options.optimized_model_filepath = request["optimised"]
        self._small_instructions = request["small_instructions"]
        with open(request["files"][0], "rb") as file:
            model = file.read()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._binding = self._bind()

    def prepare(self):
        """Nothing: inputs and outputs are bound once."""

    def run(self):
        self._session.run_with_iobinding(self._binding)

    def profile(self):
        """Cycles of each node of one run, in the order of execution."""
        runs = timed_runs(self, self._small_instructions)
        with open(self._session.end_profiling()) as file:
            events = [event for event in json.load(file) if event["cat"] == "Node"]
        events = [event for event in events if event["name"].endswith("_kernel_time")]
        events = events[-(len(events) // runs) :]
        return [
            {"name": event["name"][: -len("_kernel_time")], "op": event["args"]["op_name"], "cycles": event["dur"]}
            for event in events
        ]

    def _bind(self):
        random = np.random.default_rng(0)
        binding = self._session.io_binding()
        feeds = {}
        for value in self._session.get_inputs():
            kind = np.dtype(_TYPES[value.type])
            array = random.uniform(0.05, 1.0, value.shape) if kind.kind == "f" else np.zeros(value.shape)
            feeds[value.name] = array.astype(kind)
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, self._memory(array, fill=True))
        for value, array in self._results(feeds):
            binding.bind_ortvalue_output(value.name, self._memory(array, fill=False))
        return binding

    def _results(self, feeds):
        """Arrays like the outputs; the model is run for them only where its file does not tell their shapes."""
        outputs = self._session.get_outputs()
        if all(isinstance(length, int) for value in outputs for length in value.shape):
            return [(value, np.empty(value.shape, _TYPES[value.type])) for value in outputs]
        return list(zip(outputs, self._session.run([value.name for value in outputs], feeds)))

    @staticmethod
    def _memory(array, fill):
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
        if fill:
            value.update_inplace(array)
        return value


serve(OrtProgram)
