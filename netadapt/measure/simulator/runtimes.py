"""What the runtimes in the guest are given: models and workloads as files and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netadapt.errors import ModelError
from netadapt.measure.device import Model
from netadapt.measure.model_file import model_bytes, model_name
from netadapt.measure.platform import Runtime
from netadapt.measure.simulator.guest import Request
from netadapt.network.workload import Workload

#: Any small operation will do: it makes the runtime set itself up.
WARM_UP = Workload("conv", (16,), 16, (8, 8), bias=True, activation="relu")
#: ONNX's numbers of FLOAT, UINT8, INT8, INT32, INT64, BOOL, DOUBLE: what in_guest/ort_program.py fills.
_INPUT_TYPES = (1, 2, 3, 6, 7, 9, 11)


@dataclass(frozen=True)
class GuestRuntime:
    """How one runtime is driven."""

    #: Name of its wheel.
    distribution: str
    of_model: Callable[[Model], Request]
    of_workload: Callable[[Workload], Request]

    def warm_up(self) -> Request:
        """What a guest runs once when it starts."""
        return self.of_workload(WARM_UP)


def _ort_model(model: Model) -> Request:
    from netadapt.measure.undescribed import undescribed_onnx

    # A network and its file, which says what it is of, must be the same.
    return _ort_request(undescribed_onnx(model_bytes(model)), model_name(model), alone=False)


def _ort_workload(workload: Workload) -> Request:
    from netadapt.network.workload_onnx import workload_to_onnx

    return _ort_request(workload_to_onnx(workload), str(workload), alone=True)


def _ort_request(model: bytes, name: str, alone: bool) -> Request:
    from netadapt.measure.zeroed import zeroed_onnx

    # The instructions do not depend on the weights, and QEMU multiplies by zero twice as fast as by anything else.
    content = zeroed_onnx(model)
    _require_usable_inputs(content, name)
    return Request("ort_program", {"model.onnx": content}, {"alone": alone}, name)


def _require_usable_inputs(content: bytes, name: str) -> None:
    """Raise ModelError unless the guest can make inputs for the model."""
    import onnx

    graph = onnx.load_model_from_string(content).graph
    if not graph.node:
        raise ModelError(f"{name}: not a model: it has no operators")
    constants = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        if kind.elem_type not in _INPUT_TYPES:
            found = onnx.TensorProto.DataType.Name(kind.elem_type)
            raise ModelError(
                f"{name}: input {value.name!r} has type {found}, which cannot be filled; use one of:"
                f" {', '.join(map(onnx.TensorProto.DataType.Name, _INPUT_TYPES))}"
            )
        if not all(dim.dim_value > 0 for dim in kind.shape.dim):
            shape = [dim.dim_param or dim.dim_value or None for dim in kind.shape.dim]
            raise ModelError(
                f"{name}: input {value.name!r} has the dynamic shape {shape}; export it with a fixed shape"
            )


def _ncnn_runtime(dtype: str) -> GuestRuntime:
    from netadapt.measure.ncnn_model import NcnnModel, onnx_to_ncnn, workload_to_ncnn

    def request(model: NcnnModel, packed: bool, name: str) -> Request:
        options = {
            "inputs": model.inputs,
            "outputs": model.outputs,
            "packed": packed,
            "alone": packed,
            "float16": dtype == "float16",
            "layers": _layers(model.param),
        }
        return Request("ncnn_program", {"model.param": model.param.encode()}, options, name)

    return GuestRuntime(
        "ncnn",
        of_model=lambda model: request(onnx_to_ncnn(model), packed=False, name=model_name(model)),
        # Inside a network tensors are packed already.
        of_workload=lambda workload: request(workload_to_ncnn(workload), packed=True, name=str(workload)),
    )


def _layers(param: str) -> list[tuple[str, str, str]]:
    """Name, type and first output of each layer of a `.param` file.

    A line has type, name, number of inputs and of outputs, inputs, outputs and parameters.
    """
    lines = [line.split() for line in param.splitlines()[2:]]
    return [(line[1], line[0], line[4 + int(line[2])]) for line in lines if line and line[0] != "Input"]


def guest_runtime(runtime: Runtime) -> GuestRuntime:
    """The runtime that a platform names."""
    if runtime.name == "ncnn":
        return _ncnn_runtime(runtime.dtype)
    return GuestRuntime("onnxruntime", _ort_model, _ort_workload)
