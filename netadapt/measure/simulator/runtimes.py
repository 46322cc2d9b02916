"""What the runtimes in the guest are given: models and workloads as files and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import ModelError
from netadapt.measure.device import Model
from netadapt.measure.simulator.guest import Request
from netadapt.network.workload import Workload

#: Any small operation will do: it makes the runtime set itself up.
_WARM_UP = Workload("conv", (16,), 16, (8, 8), bias=True, activation="relu")


@dataclass(frozen=True)
class GuestRuntime:
    """How one runtime is driven."""

    #: Name of its wheel.
    distribution: str
    of_model: Callable[[Model], Request]
    of_workload: Callable[[Workload], Request]

    def warm_up(self) -> Request:
        """What a guest runs once when it starts."""
        return self.of_workload(_WARM_UP)


def _ort_model(model: Model) -> Request:
    from netadapt.measure.zeroed import zeroed_onnx

    content = _read(model) if isinstance(model, Path) else model
    # The instructions do not depend on the weights, and QEMU multiplies by zero twice as fast as by anything else.
    return Request("ort_program.py", {"model.onnx": zeroed_onnx(content)})


def _ort_workload(workload: Workload) -> Request:
    from netadapt.network.workload_onnx import workload_to_onnx

    return _ort_model(workload_to_onnx(workload))


def _ncnn_model(model: Model) -> Request:
    from netadapt.measure.ncnn_model import onnx_to_ncnn

    converted = onnx_to_ncnn(model)
    return _ncnn(converted.param, converted.inputs, converted.outputs, packed=False)


def _ncnn_workload(workload: Workload) -> Request:
    from netadapt.measure.ncnn_model import workload_to_ncnn

    converted = workload_to_ncnn(workload)
    return _ncnn(converted.param, converted.inputs, converted.outputs, packed=True)


def _ncnn(
    param: str, inputs: tuple[tuple[str, tuple[int, ...]], ...], outputs: tuple[str, ...], packed: bool
) -> Request:
    options = {"inputs": inputs, "outputs": outputs, "packed": packed, "blobs": _blobs(param)}
    return Request("ncnn_program.py", {"model.param": param.encode()}, options)


def _blobs(param: str) -> list[str]:
    """The first output of each layer: type, name, number of inputs and of outputs, inputs, outputs, parameters."""
    blobs = []
    for line in param.splitlines()[2:]:
        fields = line.split()
        if fields and fields[0] != "Input":
            blobs.append(fields[4 + int(fields[2])])
    return blobs


def _read(path: Path) -> bytes:
    import onnx

    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    try:
        # Weights may lie in files beside the model.
        return bytes(onnx.load(str(path)).SerializeToString())
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"{path}: not a model that onnx can read: {error}") from error


GUEST_RUNTIMES = {
    "ort": GuestRuntime("onnxruntime", _ort_model, _ort_workload),
    "ncnn": GuestRuntime("ncnn", _ncnn_model, _ncnn_workload),
}
