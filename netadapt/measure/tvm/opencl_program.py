"""A compiled model as a list of OpenCL kernels to start, for any OpenCL, without TVM's runtime.

Nothing here is guessed: sources, launch extents and the order of arguments are those that TVM's compiler makes, read
from the code that it makes for the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst

from netadapt.errors import MeasurementError, NetAdaptError
from netadapt.measure.platform import TvmTarget
from netadapt.measure.tvm.importing import imported, interior, tensors
from netadapt.measure.tvm.library import ENTRY, Tensor
from netadapt.measure.tvm.opencl import opencl_pipeline, opencl_target

Extents = tuple[int, int, int]

_AXES = ("x", "y", "z")
_START_KERNEL = "tirx.call_ffi_kernel"


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel to start."""

    kernel: str
    #: Numbers of the memories that are its arguments, in their order.
    arguments: tuple[int, ...]
    groups: Extents
    #: Work-items of a group.
    items: Extents

    @property
    def global_size(self) -> Extents:
        """Work-items in each direction."""
        x, y, z = (groups * items for groups, items in zip(self.groups, self.items, strict=True))
        return (x, y, z)


@dataclass(frozen=True, slots=True)
class OpenclProgram:
    """Kernels, the memories that they work on, and the order in which to start them."""

    #: OpenCL C of all kernels.
    source: str
    #: Bytes of each memory. One is used again for a later tensor once nothing reads the earlier one any more.
    memories: tuple[int, ...]
    #: What memories hold from the start: weights, by number of the memory.
    constants: Mapping[int, NDArray[Any]]
    launches: tuple[Launch, ...]
    inputs: tuple[tuple[Tensor, int], ...]
    outputs: tuple[tuple[Tensor, int], ...]

    @property
    def constant_bytes(self) -> int:
        """Size of the weights."""
        return sum(array.nbytes for array in self.constants.values())


def opencl_program(model: bytes, target: TvmTarget, inside: bool = False, name: str = "model") -> OpenclProgram:
    """Compile a model.

    Args:
        model: contents of an ONNX file.
        target: what to compile for; its kind is "opencl".
        inside: whether the model is one layer, whose images come and go in the order that they have inside a network.
        name: what errors call the model.

    Raises:
        ModelError: not a valid ONNX model.
        MeasurementError: TVM lacks an operator, or fails.

    """
    module = interior(model, name) if inside else imported(model, name)
    inputs, outputs = tensors(model, moved=inside)
    try:
        compiled = opencl_target(target)
        with compiled:
            planned = tvm.transform.Sequential([opencl_pipeline(target), *_plan_memory()])(module)
        kernels = _Kernels(planned, compiled)
        return _Walk(kernels).program(planned[ENTRY], inputs, outputs)
    except NetAdaptError:
        raise
    except Exception as error:  # TVM raises errors of many types here
        raise MeasurementError(f"{name}: TVM cannot compile it for OpenCL: {error}") from error


def _plan_memory() -> list[tvm.ir.transform.Pass]:
    """TVM's own passes from calls that give tensors to calls that write into memory."""
    transform = relax.transform
    return [
        transform.ToNonDataflow(),
        transform.RemovePurityChecking(),
        transform.CallTIRRewrite(),
        transform.StaticPlanBlockMemory(),
    ]


@dataclass(frozen=True)
class _Start:
    """A kernel that a function starts; arguments are variables of the function."""

    kernel: str
    arguments: tuple[Any, ...]
    groups: Extents
    items: Extents


@dataclass(frozen=True)
class _HostFunction:
    """What the code for the host does with its parameters: it starts one kernel, or a few."""

    params: tuple[Any, ...]
    #: Bytes of the memories that it takes for itself, by their variable.
    own: Mapping[Any, int]
    starts: tuple[_Start, ...]


class _Kernels:
    """The kernels of a module, compiled."""

    def __init__(self, module: tvm.IRModule, target: tvm.target.Target) -> None:
        functions = {
            var.name_hint: function.with_attr("global_symbol", var.name_hint)
            for var, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        self.source, self._hosts = "", {}
        if not functions:
            return
        split = _SplitModule()
        with tvm.transform.PassContext(instruments=[split]):
            built = tirx.build(tvm.IRModule(functions), target=target, pipeline="s_tir")
        self.source = str(built.imports[0].inspect_source())
        self._hosts = {name: _host_function(split.module[name]) for name in functions}

    def __getitem__(self, name: str) -> _HostFunction:
        return self._hosts[name]


@tvm.instrument.pass_instrument
class _SplitModule:
    """Keeps the module as it is when the kernels have been cut out of the functions that start them."""

    module: tvm.IRModule

    def run_after_pass(self, module: tvm.IRModule, info: Any) -> None:
        if info.name == "tirx.SplitHostDevice":
            self.module = module


def _host_function(function: tirx.PrimFunc) -> _HostFunction:
    same: dict[Any, Any] = {}
    own: dict[Any, int] = {}
    starts: list[_Start] = []

    def declare(node: tirx.DeclBuffer) -> None:
        same[node.buffer] = _variable(node.data)

    def allocate(node: tirx.AllocBuffer) -> None:
        own[node.buffer] = _buffer_bytes(node.buffer)

    def call(node: tirx.Evaluate) -> None:
        if getattr(getattr(node.value, "op", None), "name", "") == _START_KERNEL:
            starts.append(_start(node.value, same))

    visitors = [(tirx.DeclBuffer, declare), (tirx.AllocBuffer, allocate), (tirx.Evaluate, call)]
    tvm_ffi.structural_walk(function.body, visitors, order="pre")
    return _HostFunction(tuple(function.params), own, tuple(starts))


def _start(call: Any, same: Mapping[Any, Any]) -> _Start:
    names = list(call.attrs.launch_params)
    kernel, *rest = call.args
    arguments, extents = rest[: -len(names)], [int(extent) for extent in rest[-len(names) :]]
    given = dict(zip(names, extents, strict=True))
    unknown = set(given) - {f"{kind}.{axis}" for kind in ("blockIdx", "threadIdx") for axis in _AXES}
    if unknown:
        raise MeasurementError(f"kernel {kernel.value} needs {', '.join(sorted(unknown))}, which OpenCL has not")
    variables = [_variable(argument) for argument in arguments]
    return _Start(
        kernel.value,
        tuple(same.get(variable, variable) for variable in variables),
        _extents(given, "blockIdx"),
        _extents(given, "threadIdx"),
    )


def _extents(given: Mapping[str, int], kind: str) -> Extents:
    x, y, z = (given.get(f"{kind}.{axis}", 1) for axis in _AXES)
    return (x, y, z)


def _variable(pointer: Any) -> Any:
    """The variable whose memory a pointer is of."""
    if getattr(getattr(pointer, "op", None), "name", "") != "tirx.buffer_data":
        raise MeasurementError(f"a kernel takes an argument that is not a tensor: {pointer}")
    return pointer.args[0]


def _buffer_bytes(buffer: Any) -> int:
    return _bytes([int(extent) for extent in buffer.shape], str(buffer.dtype))


def _bytes(shape: list[int], dtype: str) -> int:
    kind = tvm.DataType(dtype)
    return math.prod(shape) * -(-int(kind.bits) * int(kind.lanes) // 8)


class _Walk:
    """Follows the planned function, binding by binding."""

    def __init__(self, kernels: _Kernels) -> None:
        self._kernels = kernels
        self._memories: list[int] = []
        self._constants: dict[int, NDArray[Any]] = {}
        self._launches: list[Launch] = []
        #: Numbers of the memories behind a variable; a tuple has several.
        self._known: dict[Any, tuple[int, ...]] = {}

    def program(
        self, function: relax.Function, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> OpenclProgram:
        for param in function.params:
            self._known[param] = self._tensor_memory(param.ty)
        for block in function.body.blocks:
            for binding in block.bindings:
                self._known[binding.var] = self._value(binding.value)
        taken = [self._known[param][0] for param in function.params]
        given = self._value(function.body.body)
        return OpenclProgram(
            self._kernels.source,
            tuple(self._memories),
            self._constants,
            tuple(self._launches),
            tuple(zip(inputs, taken, strict=True)),
            tuple(zip(outputs, given, strict=True)),
        )

    def _value(self, value: relax.Expr) -> tuple[int, ...]:
        if isinstance(value, relax.Var):
            return self._known[value]
        if isinstance(value, GenericConst):
            return self._constant(value)
        if isinstance(value, relax.Tuple):
            return tuple(number for field in value.fields for number in self._value(field))
        if isinstance(value, relax.TupleGetItem):
            return (self._value(value.tuple_value)[value.index],)
        if isinstance(value, relax.Call):
            return self._call(value)
        raise MeasurementError(f"cannot run {type(value).__name__} on OpenCL without TVM's runtime")

    def _call(self, call: relax.Call) -> tuple[int, ...]:
        if isinstance(call.op, tvm.ir.GlobalVar):
            self._launch(self._kernels[call.op.name_hint], [self._value(argument)[0] for argument in call.args])
            return ()
        if call.op.name == "relax.memory.alloc_storage":
            return self._memory(int(call.args[0].values[0]))
        if call.op.name == "relax.memory.alloc_tensor" and int(call.args[1].value) == 0:
            return self._value(call.args[0])
        if call.op.name == "relax.builtin.alloc_tensor":
            return self._tensor_memory(call.ty)
        if call.op.name == "relax.reshape":
            # The same numbers in the same order.
            return self._value(call.args[0])
        raise MeasurementError(f"cannot run {call.op.name} on OpenCL without TVM's runtime")

    def _launch(self, host: _HostFunction, arguments: list[int]) -> None:
        numbers = dict(zip(host.params, arguments, strict=True))
        numbers |= {variable: self._memory(size)[0] for variable, size in host.own.items()}
        for start in host.starts:
            self._launches.append(
                Launch(
                    start.kernel, tuple(numbers[variable] for variable in start.arguments), start.groups, start.items
                )
            )

    def _memory(self, size: int) -> tuple[int, ...]:
        self._memories.append(size)
        return (len(self._memories) - 1,)

    def _tensor_memory(self, kind: Any) -> tuple[int, ...]:
        return self._memory(_bytes([int(extent) for extent in kind.shape], str(kind.dtype)))

    def _constant(self, constant: GenericConst) -> tuple[int, ...]:
        array = np.ascontiguousarray(constant.value.numpy())
        (number,) = self._memory(array.nbytes)
        self._constants[number] = array
        return (number,)
