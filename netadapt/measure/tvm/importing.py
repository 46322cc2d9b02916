"""ONNX into TVM's Relax, with images as `[N, H, W, C]`, the order that the kernels of this package compute in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import tvm
from onnx import helper, numpy_helper
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.frontend.onnx import from_onnx

from netadapt.errors import MeasurementError, ModelError, reason_of
from netadapt.measure.tvm.library import ENTRY, Tensor

_TO_DEVICE = (0, 2, 3, 1)
#: Types of elements that a program can be fed with.
_KINDS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("FLOAT", "DOUBLE", "FLOAT16", "INT64", "INT32", "UINT8", "INT8", "BOOL")
)


def imported(model: bytes, name: str = "model") -> tvm.IRModule:
    """The model as its file has it: images are `[N, C, H, W]`.

    Raises:
        ModelError: not an ONNX model, or one that is not valid.
        MeasurementError: TVM's importer lacks an operator, or fails.

    """
    proto = _parsed(model, name)
    try:
        module = from_onnx(proto, keep_params_in_input=False)
        module = relax.transform.FoldConstant()(_Weights(module).module())
    except Exception as error:  # TVM raises errors of many types here
        raise MeasurementError(f"{name}: TVM cannot import it: {_last_line(error)}") from error
    return _Limits(module).module()


def channels_last(module: tvm.IRModule) -> tvm.IRModule:
    """The same function, whose convolutions and what lies between them work on `[N, H, W, C]`."""
    transform = relax.transform
    passes = [
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]}),
        transform.Normalize(),
        tvm.transform.module_pass(_with_weights_moved, opt_level=0, name="weights_moved"),
        transform.FoldConstant(),
        transform.DeadCodeElimination(),
    ]
    return tvm.transform.Sequential(passes)(module)


def interior(model: bytes, name: str = "model") -> tvm.IRModule:
    """A model of one operation as it is inside a network: its images come and go as `[N, H, W, C]`.

    A layout spreads from the convolutions. So each image passes a convolution that changes nothing, and which is
    removed when the layouts are settled.

    Raises:
        ModelError, MeasurementError: as `imported`.

    """
    marked = channels_last(imported(_marked(_parsed(model, name)), name))
    return tvm.IRModule({ENTRY: _without_marks(marked[ENTRY])})


def tensors(model: bytes, moved: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of a model, whose images have become `[N, H, W, C]` if they were `moved`."""
    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    return tuple(_tensor(value, moved) for value in inputs), tuple(_tensor(value, moved) for value in graph.output)


class _EntryMutator(relax.PyExprMutator):  # type: ignore[misc]
    """Changes expressions of the function of a model."""

    def __init__(self, module: tvm.IRModule) -> None:
        super().__init__(module)
        self._module = module

    def module(self) -> tvm.IRModule:
        entry = self._module.get_global_var(ENTRY)
        self.builder_.update_func(entry, self.visit_expr(self._module[entry]))
        return relax.transform.DeadCodeElimination()(self.builder_.finalize())


@relax.expr_functor.mutator
class _Limits(_EntryMutator):
    """Makes what the importer makes of Clip, kernels for one layout, maximum and minimum, which fit every layout."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op.name == "relax.clip":
            value, low, high = call.args
            return self.builder_.normalize(relax.op.minimum(relax.op.maximum(value, _scalar(low)), _scalar(high)))
        if call.op.name != "relax.call_tir":
            return call
        kernel, arguments = call.args
        operator = {"maximum": relax.op.maximum, "minimum": relax.op.minimum}.get(kernel.name_hint.rstrip("0123456789"))
        if operator is None or not isinstance(arguments[1], GenericConst):
            return call
        return self.builder_.normalize(operator(*arguments))


@relax.expr_functor.mutator
class _Weights(_EntryMutator):
    """Moves and reshapes weights here, where it takes no time; TVM would compile a function for each."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not call.args or not isinstance(call.args[0], GenericConst):
            return call
        if call.op.name == "relax.permute_dims":
            axes = [int(axis) for axis in call.attrs.axes] if call.attrs.axes is not None else None
            return relax.const(np.ascontiguousarray(call.args[0].value.numpy().transpose(axes)))
        if call.op.name == "relax.reshape":
            return relax.const(call.args[0].value.numpy().reshape([int(length) for length in call.ty.shape]))
        return call


def _with_weights_moved(module: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    return _Weights(module).module()


def _scalar(number: relax.PrimValue) -> relax.Expr:
    return relax.const(float(number.value), "float32")


def _parsed(model: bytes, name: str) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"{name}: not a valid ONNX model: {reason_of(error)}") from error
    _require_tensors(proto.graph, name)
    _remove_dropout(proto.graph)
    return proto


def _require_tensors(graph: onnx.GraphProto, name: str) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    for what, value in [*(("input", value) for value in inputs), *(("output", value) for value in graph.output)]:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type not in _KINDS:
            raise ModelError(f"{name}: {what} {value.name!r} is no tensor of numbers, which cannot be measured")
        if not all(dim.dim_value > 0 for dim in kind.shape.dim):
            shown = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
            raise ModelError(
                f"{name}: {what} {value.name!r} has the dynamic shape {shown}; export it with a fixed shape"
            )


def _remove_dropout(graph: onnx.GraphProto) -> None:
    """Dropout does nothing outside of training, and TVM's change of layouts fails over its two results."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for index, node in enumerate(graph.node):
        if node.op_type == "Dropout" and used.isdisjoint(node.output[1:]):
            graph.node[index].CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1], node.name))


def _marked(proto: onnx.ModelProto) -> bytes:
    graph = proto.graph
    for value in [value for value in graph.input if _is_image(value)]:
        plain = f"{value.name}.plain"
        for node in graph.node:
            node.input[:] = [plain if used == value.name else used for used in node.input]
        graph.node.insert(0, _mark(graph, value, value.name, plain))
    for value in [value for value in graph.output if _is_image(value)]:
        plain = f"{value.name}.plain"
        for node in graph.node:
            node.output[:] = [plain if made == value.name else made for made in node.output]
        graph.node.append(_mark(graph, value, plain, value.name))
    return bytes(proto.SerializeToString())


def _is_image(value: onnx.ValueInfoProto) -> bool:
    return len(value.type.tensor_type.shape.dim) == 4


def _mark(graph: onnx.GraphProto, value: onnx.ValueInfoProto, source: str, result: str) -> onnx.NodeProto:
    channels = value.type.tensor_type.shape.dim[1].dim_value
    ones = numpy_helper.from_array(np.ones((channels, 1, 1, 1), np.float32), f"{value.name}.ones")
    graph.initializer.append(ones)
    return helper.make_node("Conv", [source, ones.name], [result], group=channels)


def _without_marks(function: relax.Function) -> relax.Function:
    """Make what the marks of inputs give the parameters, and what the mark of the output takes the result."""
    values = {binding.var: binding.value for binding in function.body.blocks[0].bindings}
    replaced: dict[relax.Var, relax.Var] = {}
    removed: set[relax.Var] = set()
    params = []
    for param in function.params:
        params.append(param)
        if len(param.ty.shape) == 4:
            transposed = _reader(param, values)
            mark = _reader(transposed, values)
            params[-1] = replaced[mark] = relax.Var(param.name, mark.ty)
            removed |= {transposed, mark}
    result = function.body.body
    if len(result.ty.shape) == 4:
        mark = values[result].args[0]
        removed |= {result, mark}
        result = values[mark].args[0]
    builder = relax.BlockBuilder()
    with builder.function(ENTRY, params, attrs={"num_input": len(params)}):
        with builder.dataflow():
            for var, value in values.items():
                if var not in removed:
                    replaced[var] = builder.emit(_substituted(value, replaced))
            output = builder.emit_output(replaced[result])
        builder.emit_func_output(output)
    return builder.get()[ENTRY]


def _reader(var: relax.Var, values: Mapping[relax.Var, relax.Expr]) -> relax.Var:
    return next(reader for reader, call in values.items() if isinstance(call, relax.Call) and var.same_as(call.args[0]))


def _substituted(value: relax.Expr, replaced: Mapping[relax.Var, relax.Var]) -> relax.Expr:
    if isinstance(value, relax.Var):
        return replaced.get(value, value)
    if isinstance(value, relax.Tuple):
        return relax.Tuple([_substituted(field, replaced) for field in value.fields])
    if isinstance(value, relax.Call):
        arguments = [_substituted(argument, replaced) for argument in value.args]
        return relax.Call(value.op, arguments, value.attrs, value.ty_args)
    return value


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _tensor(value: onnx.ValueInfoProto, moved: bool) -> Tensor:
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return Tensor(value.name, shape, kind, _TO_DEVICE if moved and len(shape) == 4 else tuple(range(len(shape))))
