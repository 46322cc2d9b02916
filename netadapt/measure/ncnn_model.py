"""Models in the format of ncnn: whole networks converted by `pnnx`, single operations written down directly.

Both come out the same: an operation has here the layers and parameters that pnnx (20261020) gives it inside a network,
among them the activations that it makes part of a layer (ReLU, ReLU6, Sigmoid) and those that stay layers of their
own (HardSwish, SiLU, ...). The parameters of the layers are explained at
https://github.com/Tencent/ncnn/wiki/operation-param-weight-table.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import MeasurementError, ModelError, reason_of
from netadapt.measure.model_file import model_name, read_model
from netadapt.network.workload import Workload

_MAGIC = "7767517"
#: Precedes the weights of a layer that are stored as float32.
_FLOAT32 = bytes(4)
#: The number by which pnnx says that a tensor has no batch axis.
_NO_BATCH_AXIS = 233
_TIME_LIMIT_S = 600


@dataclass(frozen=True)
class NcnnModel:
    """A network as ncnn loads it; all weights are float32."""

    #: The content of the `.param` file: one line a layer.
    param: str
    #: The content of the `.bin` file.
    weights: bytes
    #: Name and shape of each input. ncnn's tensors have no batch axis: an image is [C, H, W], features are [C].
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]


def zeroed(model: NcnnModel) -> NcnnModel:
    """The same model with all weights 0: the same instructions run, but nobody has to generate or copy weights.

    The marks before the weights are 0 too, for they say "float32". ncnn guards its batch-norms against a variance of 0.
    """
    return replace(model, weights=bytes(len(model.weights)))


def onnx_to_ncnn(model: bytes | Path) -> NcnnModel:
    """Convert an ONNX model as one does to deploy it: batch-norms folded, activations made part of layers.

    Raises:
        ModelError: not a model, an invalid one, or inputs without a fixed shape.
        MeasurementError: pnnx or ncnn is not installed, or lacks an operator of the model; names the operators.

    """
    name = model_name(model)
    content, shapes = _read_onnx(model, name)
    with tempfile.TemporaryDirectory() as folder:
        _run_pnnx(Path(folder), content, name)
        param = (Path(folder) / "model.ncnn.param").read_text()
        weights = (Path(folder) / "model.ncnn.bin").read_bytes()
        script = (Path(folder) / "model_ncnn.py").read_text()
    layers = _layers(param)
    _check_layers(layers, name)
    inputs = _inputs_without_batch(layers, shapes, script, name)
    read = {blob for layer in layers for blob in layer.inputs}
    outputs = tuple(blob for layer in layers for blob in layer.outputs if blob not in read)
    return NcnnModel(param, weights, inputs, outputs)


def workload_to_ncnn(workload: Workload) -> NcnnModel:
    """Write one operation as a network of its own, with inputs `x0`, `x1`, ... and the weights of `workload_to_onnx`.

    Its inputs are meant to be fed, and its output to be taken, in the layout that they have inside a network: packed
    by 4 or more channels where ncnn does so.

    Raises:
        MeasurementError: ncnn has no such operation.

    """
    if workload.batch != 1:
        raise MeasurementError(f"{workload}: batch {workload.batch}; ncnn runs one image at a time")
    writer = _Writer(_constants(workload))
    shapes = _input_shapes(workload)
    inputs = [writer.input(f"x{index}") for index in range(len(shapes))]
    result = _WRITERS[workload.op](writer, workload, inputs)
    if workload.activation not in _FUSED or workload.op not in ("conv", "linear"):
        result = writer.activation(workload.activation, result)
    return NcnnModel(writer.param(), b"".join(writer.weights), tuple(zip(inputs, shapes, strict=True)), (result,))


# Whole networks


def _read_onnx(model: bytes | Path, name: str) -> tuple[bytes, list[tuple[int, ...]]]:
    """The content of a valid model, with all its weights, and the shapes of its inputs."""
    import onnx

    proto = read_model(model)
    local = {(function.domain, function.name) for function in proto.functions}
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in proto.graph.node
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in local
    }
    if foreign:
        raise MeasurementError(f"{name}: ncnn lacks operators of the model: {', '.join(sorted(foreign))}")
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and others from malformed files
        raise ModelError(f"{name}: not a model that ncnn can load: {reason_of(error)}") from error
    shapes = _input_shapes_of_graph(proto.graph, name)
    return proto.SerializeToString(), shapes


def _input_shapes_of_graph(graph: Any, name: str) -> list[tuple[int, ...]]:
    from onnx import TensorProto

    constants = {tensor.name for tensor in graph.initializer}
    shapes = []
    for value in graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        if kind.elem_type != TensorProto.FLOAT:
            raise MeasurementError(f"{name}: input {value.name!r} is not float32; ncnn runs only networks of float32")
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        if not all(length > 0 for length in shape):
            shown = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
            raise ModelError(
                f"{name}: input {value.name!r} has the dynamic shape {shown}; export it with a fixed shape"
            )
        shapes.append(shape)
    return shapes


def _run_pnnx(folder: Path, content: bytes, name: str) -> None:
    program = _pnnx()
    (folder / "model.onnx").write_bytes(content)
    # fp16=0: weights stay float32. What pnnx writes for other purposes is as large as the model and not needed.
    options = ["fp16=0", *(f"{kind}={os.devnull}" for kind in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx"))]
    try:
        done = subprocess.run(
            [str(program), "model.onnx", *options],
            cwd=folder,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasurementError(f"{name}: pnnx cannot convert it: {error}") from error
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        reason = " ".join(output[-3:]) or "no message"
        raise MeasurementError(f"{name}: pnnx cannot convert it (exit code {done.returncode}): {reason}")


def _pnnx() -> Path:
    """The converter's binary. Its Python package is not imported, because it imports torch."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise MeasurementError("converting networks for ncnn needs pnnx; install it with: pip install ncnn pnnx")
    return Path(spec.origin).parent / ("pnnx.exe" if sys.platform == "win32" else "pnnx")


@dataclass(frozen=True)
class _Layer:
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _layers(param: str) -> list[_Layer]:
    layers = []
    for line in param.splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        middle, end = int(inputs), int(inputs) + int(outputs)
        layers.append(_Layer(kind, name, tuple(rest[:middle]), tuple(rest[middle:end])))
    return layers


def _check_layers(layers: list[_Layer], name: str) -> None:
    """What pnnx could not convert, it leaves in the model under its old name."""
    ncnn = import_ncnn()
    unknown = sorted({layer.kind for layer in layers if ncnn.layer_to_index(layer.kind) < 0})
    if unknown:
        raise MeasurementError(f"{name}: ncnn lacks operators of the model: {', '.join(unknown)}")


def import_ncnn() -> Any:
    """The module ncnn.

    Raises:
        MeasurementError: it is not installed or does not load.

    """
    try:
        return importlib.import_module("ncnn")
    except ImportError as error:
        raise MeasurementError(f"ncnn cannot be used ({error}); install it with: pip install ncnn pnnx") from error


def _inputs_without_batch(
    layers: list[_Layer], shapes: list[tuple[int, ...]], script: str, name: str
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Which axis of an input is the batch, pnnx tells only in the example script that it writes."""
    axes = dict(re.findall(r'ex\.input\("(\w+)".*batch_index=(\d+)', script))
    names = [layer.outputs[0] for layer in layers if layer.kind == "Input"]
    if len(names) != len(shapes) or any(blob not in axes for blob in names):
        raise MeasurementError(f"{name}: the inputs of the model that this version of pnnx made are not understood")
    inputs = []
    for blob, shape in zip(names, shapes, strict=True):
        axis = int(axes[blob])
        if axis != _NO_BATCH_AXIS:
            if shape[axis] != 1:
                raise MeasurementError(f"{name}: batch {shape[axis]}; ncnn runs one image at a time")
            shape = (*shape[:axis], *shape[axis + 1 :])
        inputs.append((blob, shape))
    return tuple(inputs)


# Single operations

_Parameters = Mapping[int, int | float | tuple[float, ...]]

#: Activations that become part of a convolution or linear layer: their number and limits.
_FUSED: dict[str, _Parameters] = {"relu": {9: 1}, "relu6": {9: 3, 10: (0.0, 6.0)}, "sigmoid": {9: 4}}
_HARD = {0: 1 / 6, 1: 0.5}
_ACTIVATION_LAYERS: dict[str, tuple[str, _Parameters]] = {
    "relu": ("ReLU", {}),
    "relu6": ("Clip", {0: 0.0, 1: 6.0}),
    "hardswish": ("HardSwish", _HARD),
    "hardsigmoid": ("HardSigmoid", _HARD),
    "sigmoid": ("Sigmoid", {}),
    "silu": ("Swish", {}),
    "tanh": ("TanH", {}),
}
_BATCH_NORM_EPSILON = 1e-5


@dataclass
class _Writer:
    """Lines and weights of the network under construction."""

    constants: dict[str, NDArray[np.float32]]
    lines: list[str] = field(default_factory=list)
    weights: list[bytes] = field(default_factory=list)

    def input(self, name: str) -> str:
        self.lines.append(f"Input {name} 0 1 {name}")
        return name

    def layer(self, kind: str, inputs: list[str], parameters: _Parameters | None = None) -> str:
        number = len(self.lines)
        output = f"y{number}"
        texts = [_parameter(key, value) for key, value in sorted((parameters or {}).items())]
        self.lines.append(" ".join([kind, f"layer{number}", f"{len(inputs)} 1", *inputs, output, *texts]))
        return output

    def weight(self, *names: str, marked: bool = True) -> None:
        """Append the weights of the last layer; the first of a layer that can also be half or integer is marked."""
        if marked:
            self.weights.append(_FLOAT32)
        self.weights += [self.constants[name].tobytes() for name in names if name in self.constants]

    def activation(self, kind: str, source: str) -> str:
        """Append the activation; a network that computes nothing needs a layer."""
        if kind == "none":
            return self.layer("Noop", [source]) if self.lines[-1].startswith("Input") else source
        layer, parameters = _ACTIVATION_LAYERS[kind]
        return self.layer(layer, [source], parameters)

    def param(self) -> str:
        # Every layer has exactly one output, so there are as many blobs as layers.
        count = len(self.lines)
        return "\n".join([_MAGIC, f"{count} {count}", *self.lines, ""])


def _parameter(key: int, value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return f"{-23300 - key}={len(value)}," + ",".join(map(str, value))
    return f"{key}={value}" if isinstance(value, int) else f"{key}={value:.9g}" + ("" if value % 1 else ".0")


def _constants(workload: Workload) -> dict[str, NDArray[np.float32]]:
    from onnx import load_model_from_string, numpy_helper

    from netadapt.network.workload_onnx import workload_to_onnx

    graph = load_model_from_string(workload_to_onnx(workload)).graph
    return {tensor.name: np.ascontiguousarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}


def _input_shapes(workload: Workload) -> list[tuple[int, ...]]:
    if workload.op == "linear" or _is_linear(workload) or _works_on_features(workload):
        return [(workload.in_channels[0],)]
    shapes: list[tuple[int, ...]] = [(channels, *workload.in_size) for channels in workload.in_channels]
    if workload.op == "scale":
        shapes[1] = (workload.in_channels[1],)
    return shapes


def _is_linear(workload: Workload) -> bool:
    """Whether this is a convolution of a squeeze-excite: pnnx makes linear layers of those, 1.5 times as fast.

    Their input is what a global average pool left. A convolution of an image that strides have shrunk to one pixel
    remains one; it looks the same but for this: a squeeze has an activation and fewer outputs than inputs, where the
    narrowing convolutions of networks have none, and an excite ends in a sigmoid.
    """
    alike = (
        workload.op == "conv"
        and workload.groups == 1
        and workload.in_size == workload.kernel == workload.stride == (1, 1)
        and workload.padding == (0, 0)
    )
    squeezes = workload.out_channels < workload.in_channels[0] and workload.activation != "none"
    return alike and (squeezes or workload.activation in ("sigmoid", "hardsigmoid"))


def _works_on_features(workload: Workload) -> bool:
    return workload.op == "activation" and workload.in_size == (1, 1)


def _conv(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    if _is_linear(workload):
        return _linear(writer, workload, inputs)
    parameters = {
        **_window(workload),
        0: workload.out_channels,
        2: workload.dilation[1],
        12: workload.dilation[0],
        3: workload.stride[1],
        13: workload.stride[0],
        4: workload.padding[1],
        14: workload.padding[0],
        5: int(workload.bias),
        6: writer.constants["weight"].size,
        **_FUSED.get(workload.activation, {}),
    }
    kind = "Convolution" if workload.groups == 1 else "ConvolutionDepthWise"
    if workload.groups > 1:
        parameters[7] = workload.groups
    result = writer.layer(kind, inputs, parameters)
    writer.weight("weight", "bias")
    return result


def _linear(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    weight = writer.constants["weight"]
    if workload.op == "linear" and not workload.bias:
        # A MatMul has its weights as [in, out], ncnn wants [out, in].
        weight = writer.constants["weight"] = np.ascontiguousarray(weight.T)
    fused = _FUSED.get(workload.activation, {})
    result = writer.layer(
        "InnerProduct", inputs, {0: workload.out_channels, 1: int(workload.bias), 2: weight.size, **fused}
    )
    writer.weight("weight", "bias")
    return result


def _pool(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    if workload.dilation != (1, 1):
        raise MeasurementError(f"{workload}: dilation {workload.dilation}; ncnn lacks pools with dilation")
    parameters = {
        **_window(workload),
        0: int(workload.op == "avg_pool"),
        2: workload.stride[1],
        12: workload.stride[0],
        3: workload.padding[1],
        13: workload.padding[0],
        # 0 lets the last window reach beyond the border, 1 does not.
        5: 0 if workload.ceil_mode else 1,
    }
    if workload.op == "avg_pool":
        parameters[6] = int(workload.count_include_pad)
    return writer.layer("Pooling", inputs, parameters)


def _window(workload: Workload) -> dict[int, int | float | tuple[float, ...]]:
    return {1: workload.kernel[1], 11: workload.kernel[0]}


def _global_avg_pool(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    return writer.layer("Pooling", inputs, {0: 1, 4: 1})


def _binary(operation: int) -> Callable[[_Writer, Workload, list[str]], str]:
    def write(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
        result = inputs[0]
        for other in inputs[1:]:
            result = writer.layer("BinaryOp", [result, other], {0: operation})
        return result

    return write


def _concat(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    return writer.layer("Concat", inputs, {0: 0})


def _batch_norm(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    result = writer.layer("BatchNorm", inputs, {0: workload.out_channels, 1: _BATCH_NORM_EPSILON})
    writer.weight("gamma", "mean", "variance", "beta", marked=False)
    return result


def _identity(writer: _Writer, workload: Workload, inputs: list[str]) -> str:
    return inputs[0]


_WRITERS: dict[str, Callable[[_Writer, Workload, list[str]], str]] = {
    "conv": _conv,
    "linear": _linear,
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global_avg_pool,
    "add": _binary(0),
    "mul": _binary(2),
    "scale": _binary(2),
    "concat": _concat,
    "batch_norm": _batch_norm,
    "activation": _identity,
}
