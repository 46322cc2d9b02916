"""Look for kernels that are faster than ours: MetaSchedule makes candidates, the platform itself times them.

A network is compiled up to its fused functions, of which those that take most time are tuned. Each candidate is
compiled and loaded as any model is, and timed only if it computes what the function says. The best one counts if it is
also faster than our kernel when both are timed interleaved. Imports TVM.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.s_tir import meta_schedule
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.meta_schedule.logging import get_logging_func

from netadapt.errors import DeviceBusy, DeviceLost, MeasurementError, TuningError
from netadapt.measure.compare import Pairing, clean_costs, collect_pairs, paired_ratio, verdict
from netadapt.measure.device import open_device
from netadapt.measure.local import activations
from netadapt.measure.platform import Limits, Platform, TvmRuntime, TvmTarget
from netadapt.measure.protocol import BlockSource, collect
from netadapt.measure.tvm import importing
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.measure.tvm.compile import built, compiler_target, compiling
from netadapt.measure.tvm.cpu import fusing_pipeline, is_fused, our_kernel
from netadapt.measure.tvm.cpu_target import cpu_fields
from netadapt.measure.tvm.library import ENTRY, Library, Tensor
from netadapt.measure.tvm.records import Functions, Records, TunedKernel, workload_of
from netadapt.measure.tvm.reference import Example

#: Candidates that are made from what was learnt of those before.
_BATCH = 16
#: How long a candidate is timed, after warm-up; the best one is compared with ours for longer.
_TRIAL_LIMIT_S = 0.2
_PAIRING = Pairing(time_limit_ns=15_000_000_000)
_OUTPUT = "output"
_FLOAT = "float32"


@dataclass(frozen=True, slots=True)
class FusedFunction:
    """A function that has to become a kernel, and how a network calls it."""

    name: str
    function: tirx.PrimFunc
    #: Weights are arrays, what comes from other kernels tensors.
    arguments: tuple[NDArray[Any] | Tensor, ...]
    output: Tensor
    #: How often the network calls it.
    calls: int = 1

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The arguments that come from other kernels."""
        return tuple(argument for argument in self.arguments if isinstance(argument, Tensor))

    def library(self, kernel: tirx.PrimFunc, target: TvmTarget) -> Library:
        """The call of a kernel that computes the function, compiled by itself.

        Raises:
            MeasurementError: it cannot be compiled.

        """
        return Library(built(self._module(kernel), target, self.name), self.inputs, (self.output,))

    def example(self) -> Example:
        """Random inputs, and the output that the function says, computed on this machine with no kernel at all.

        Raises:
            MeasurementError: it cannot be compiled.

        """
        from tvm.relax import VirtualMachine

        random = np.random.default_rng(0)
        inputs = {tensor.name: activations(random, tensor.shape).astype(tensor.dtype) for tensor in self.inputs}
        here = TvmTarget(kind="llvm")
        with compiling(self.name):
            executable = tvm.compile(self._module(self.function), compiler_target(here))
        machine = VirtualMachine(executable, tvm.cpu())
        result = machine[ENTRY](*(tvm.runtime.tensor(array) for array in inputs.values()))
        return Example(inputs, {_OUTPUT: result.numpy()})

    def _module(self, kernel: tirx.PrimFunc) -> tvm.IRModule:
        """A network of this call alone."""
        builder = relax.BlockBuilder()
        params = [relax.Var(tensor.name, _tensor_type(tensor)) for tensor in self.inputs]
        given = iter(params)
        arguments = [next(given) if isinstance(value, Tensor) else relax.const(value) for value in self.arguments]
        with builder.function(ENTRY, params, attrs={"num_input": len(params)}):
            with builder.dataflow():
                call = relax.call_tir(builder.add_func(kernel, "kernel"), arguments, _tensor_type(self.output))
                output = builder.emit_output(call)
            builder.emit_func_output(output)
        return builder.get()


def fused_functions(model: bytes, target: TvmTarget, name: str = "model") -> list[FusedFunction]:
    """The distinct functions of a model that can be tuned, in the order of their first calls.

    Left out are those that need no schedule and those of other types than float32.

    Raises:
        ModelError: not a valid ONNX model.
        MeasurementError: TVM lacks an operator, or fails.

    """
    compiler = compiler_target(target)
    imported = importing.imported(model, name)
    with compiling(name), compiler:
        module = fusing_pipeline(compiler)(imported)
    found: list[FusedFunction] = []
    for block in module[ENTRY].body.blocks:
        for binding in block.bindings:
            called = _called(binding.value, module)
            if called is None:
                continue
            for index, known in enumerate(found):
                if _is_equal(known.function, called.function):
                    found[index] = replace(known, calls=known.calls + 1)
                    break
            else:
                found.append(called)
    return found


def _called(value: Any, module: tvm.IRModule) -> FusedFunction | None:
    if not isinstance(value, relax.Call) or value.op.name != "relax.call_tir":
        return None
    variable, arguments = value.args[0], list(value.args[1])
    types = [value.ty_args[0], *(argument.ty for argument in arguments)]
    function = module[variable]
    if not is_fused(function) or not all(_is_plain(each) for each in types):
        return None
    output = _tensor(_OUTPUT, value.ty_args[0])
    values = [
        argument.value.numpy() if isinstance(argument, GenericConst) else _tensor(f"input{index}", argument.ty)
        for index, argument in enumerate(arguments)
    ]
    return FusedFunction(variable.name_hint, function.without_attr("global_symbol"), tuple(values), output)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel, and the steps of TVM's schedule that make it."""

    kernel: tirx.PrimFunc
    trace: list[Any]


class Search(Protocol):
    """Makes candidates for one function."""

    def batches(self) -> Iterator[Sequence[Candidate]]:
        """Candidates, until there are no more; `tell` is called before the next ones."""

    def tell(self, costs_ns: Sequence[float | None]) -> None:
        """Tell what the candidates of the last batch took; None for those that failed."""


class MetaScheduleSearch:
    """TVM's evolutionary search.

    Its candidates are tiled, vectorised and unrolled; none is parallel, since platforms of one thread are measured.
    There is no model of costs between measurements: the ones that TVM has need packages of their own.

    Args:
        function: what the candidates compute.
        target: the CPU that they are for.
        trials: number of candidates.
        seed: of the search.

    """

    def __init__(self, function: tirx.PrimFunc, target: TvmTarget, trials: int, seed: int) -> None:
        self._target = compiler_target(target)
        self._context = _context(function, self._target, seed)
        # The best of these are the parents of the next candidates.
        self._database = meta_schedule.database.MemoryDatabase()
        self._workload = self._database.commit_workload(self._context.mod)
        self._asked: list[Any] = []
        self._trials = trials
        self._seed = seed

    def batches(self) -> Iterator[Sequence[Candidate]]:
        """See `Search.batches`."""
        self._context.pre_tuning(
            max_trials=self._trials,
            num_trials_per_iter=min(_BATCH, self._trials),
            database=self._database,
            cost_model=meta_schedule.cost_model.RandomModel(seed=self._seed),
        )
        while asked := self._generated():
            self._asked = asked
            yield [_candidate(each.sch) for each in asked]
        self._context.post_tuning()

    def _generated(self) -> list[Any]:
        with compiling("MetaSchedule"):
            return list(self._context.generate_measure_candidates() or [])

    def tell(self, costs_ns: Sequence[float | None]) -> None:
        """See `Search.tell`."""
        results = []
        for asked, cost_ns in zip(self._asked, costs_ns, strict=True):
            seconds = None if cost_ns is None else [cost_ns / 1e9]
            results.append(meta_schedule.runner.RunnerResult(seconds, "failed" if seconds is None else None))
            if seconds:
                record = meta_schedule.database.TuningRecord(
                    asked.sch.trace, self._workload, seconds, self._target, asked.args_info
                )
                self._database.commit_tuning_record(record)
        self._context.notify_runner_results(self._asked, results)


def _context(function: tirx.PrimFunc, target: tvm.target.Target, seed: int) -> meta_schedule.TuneContext:
    """TVM's search for one function.

    `TuneContext` is made without its Python constructor, which first imports the instructions of all tensor cores. No
    rule here uses them, and it takes a minute: each of some hundred functions looks through all modules of Python.
    """
    context = meta_schedule.TuneContext.__new__(meta_schedule.TuneContext)
    strategy = meta_schedule.search_strategy.EvolutionarySearch(
        population_size=4 * _BATCH, init_min_unmeasured=_BATCH, genetic_num_iters=2
    )
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    # MetaSchedule takes 1 and above for a seed.
    name, threads, random = "main", 1, seed + 1
    context.__init_handle_by_constructor__(
        _ffi_api.TuneContext,
        module,
        target,
        _space(),
        strategy,
        name,
        threads,
        random,
        get_logging_func(logging.getLogger(__name__)),
    )
    _ffi_api.TuneContextInitialize(context)
    return context


def _space() -> meta_schedule.space_generator.PostOrderApply:
    """TVM's rules for CPUs, without those that make threads. Its names for sets of rules crash for other systems."""
    rule, mutator, after = meta_schedule.schedule_rule, meta_schedule.mutator, meta_schedule.postproc
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=[
            rule.InlineConstantScalars(),
            rule.AutoInline(
                into_producer=False,
                into_consumer=True,
                inline_const_tensor=True,
                disallow_if_then_else=True,
                require_injective=True,
                require_ordered=True,
                disallow_op=["tirx.exp"],
            ),
            rule.AddRFactor(max_jobs_per_core=16, max_innermost_factor=64),
            rule.MultiLevelTiling(
                structure="SSRSRS",
                max_innermost_factor=64,
                reuse_write=rule.ReuseType(req="may", levels=[1, 2], scope="global"),
            ),
            rule.ParallelizeVectorizeUnroll(
                max_jobs_per_core=-1, max_vectorize_extent=64, unroll_max_steps=[0, 16, 64, 512], unroll_explicit=True
            ),
            rule.RandomComputeLocation(),
        ],
        postprocs=[
            after.DisallowDynamicLoop(),
            after.RewriteParallelVectorizeUnroll(),
            after.RewriteReductionBlock(),
        ],
        mutator_probs={
            mutator.MutateTileSize(): 0.9,
            mutator.MutateComputeLocation(): 0.05,
            mutator.MutateUnroll(): 0.05,
        },
    )


def _candidate(schedule: Any) -> Candidate:
    trace = schedule.trace.simplified(remove_postproc=False).as_json()
    # Numbers come as TVM's own.
    plain = json.loads(json.dumps(trace, default=lambda number: number.value))
    return Candidate(schedule.mod["main"], plain)


class TuningDevice(Protocol):
    """What candidates are timed on."""

    platform: Platform

    def load_library(self, checked: CheckedLibrary, name: str) -> AbstractContextManager[BlockSource]:
        """Load compiled code, to be timed; raises MeasurementError when it fails, or gives another result."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep everybody else from measuring on this device."""


#: Makes the search for a function: its target, the number of trials and a seed follow.
MakeSearch = Callable[[tirx.PrimFunc, TvmTarget, int, int], Search]


class Observer(Protocol):
    """Hears how tuning gets on."""

    def stage(self, text: str) -> None:
        """Something new begins."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def waiting(self, text: str) -> None:
        """Another process is measuring; called at once and every few seconds until it is this one's turn."""

    def measured(self, done: int, total: int) -> None:
        """So many measurements of this stage are done."""


class _Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def waiting(self, text: str) -> None:
        pass

    def measured(self, done: int, total: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Tuned:
    """What is known of a function of a network."""

    kernel: TunedKernel
    #: How often the network calls it.
    calls: int
    #: Whether it was tuned now, and not before.
    new: bool


def tune(
    model: bytes,
    platform: Platform,
    path: Path,
    *,
    name: str = "model",
    trials: int = 64,
    most_kernels: int | None = None,
    seed: int = 0,
    observer: Observer | None = None,
    make_search: MakeSearch = MetaScheduleSearch,
) -> list[Tuned]:
    """Tune the kernels of a model; each is in the records as soon as it is finished.

    Args:
        model: contents of an ONNX file.
        platform: whose clock decides.
        path: file of the records; functions that it has with at least as many trials are not tuned again.
        name: what errors call the model.
        trials: candidates of each kernel.
        most_kernels: how many kernels, of those that take most time; None is all.
        seed: of the search.
        observer: hears of progress.
        make_search: makes candidates.

    Raises:
        TuningError: the platform's kernels cannot be tuned, or the records are damaged, or made for something else.
        ModelError, MeasurementError: as `compile_model` and `Device.costs`.

    """
    target = _require_tunable(platform)
    _records(path, platform, target)
    observer = observer or _Silent()
    observer.stage("compiling")
    functions = fused_functions(model, target, name)
    with open_device(_for_trials(platform), observer.waiting) as opened:
        tuning = _Tuning(cast(TuningDevice, opened), target, observer)
        observer.stage("measuring kernels")
        functions = tuning.slowest(functions, most_kernels)
        results: list[Tuned] = []
        observer.stage(f"tuning {len(functions)} kernels")
        for number, function in enumerate(functions):
            known = Functions(_records(path, platform, target).kernels).find(function.function)
            if known and known.trials >= trials:
                results.append(Tuned(known, function.calls, new=False))
                continue
            counter = partial(_count, observer, number * trials, len(functions) * trials)
            kernel = tuning.tuned(
                function, partial(make_search, function.function, target, trials, seed), trials, counter
            )
            if known:
                kernel = kernel.model_copy(update={"workload": known.workload})
            # Read again: another process may tune other kernels meanwhile.
            _records(path, platform, target).with_kernel(kernel).write(path)
            results.append(Tuned(kernel, function.calls, new=True))
    return results


def _count(observer: Observer, before: int, total: int, made: int) -> None:
    observer.measured(before + made, total)


class _Tuning:
    """Times kernels on a device."""

    def __init__(self, device: TuningDevice, target: TvmTarget, observer: Observer) -> None:
        self._device = device
        self._target = target
        self._observer = observer

    def slowest(self, functions: Sequence[FusedFunction], most: int | None) -> list[FusedFunction]:
        """The functions whose calls take most time with our kernels, the longest first."""
        costs_ns = {}
        for done, function in enumerate(functions, 1):
            checked = self._checked(function, function.example(), self._our_kernel(function))
            costs_ns[function.name] = function.calls * self._cost_ns(checked, function.name)
            self._observer.measured(done, len(functions))
        return sorted(functions, key=lambda function: -costs_ns[function.name])[:most]

    def tuned(
        self, function: FusedFunction, search: Callable[[], Search], trials: int, on_trial: Callable[[int], None]
    ) -> TunedKernel:
        """Try candidates for a function, and compare the best one with our kernel."""
        example = function.example()
        ours = self._checked(function, example, self._our_kernel(function))
        ours_ns = self._cost_ns(ours, function.name)
        best, best_ns, made, wrong = None, None, 0, 0
        searching = search()
        for batch in searching.batches():
            costs_ns = []
            for candidate in batch:
                cost_ns = self._trial_ns(function, example, candidate)
                costs_ns.append(cost_ns)
                made, wrong = made + 1, wrong + (cost_ns is None)
                on_trial(made)
                if cost_ns is not None and (best_ns is None or cost_ns < best_ns):
                    best, best_ns = candidate, cost_ns
            searching.tell(costs_ns)
        ratio = None
        if best and best_ns and best_ns < ours_ns:
            ratio = self._ratio(ours, self._checked(function, example, best.kernel), function.name)
        won = best is not None and ratio is not None and verdict(*ratio, _PAIRING.margin) == "FASTER"
        return TunedKernel(
            name=function.name,
            workload=workload_of(function.function),
            # A space may hold fewer candidates, and a second run would find no more.
            trials=trials,
            wrong=wrong,
            ours_ns=ours_ns,
            best_ns=best_ns,
            ratio=ratio,
            trace=best.trace if best and won else None,
        )

    def _our_kernel(self, function: FusedFunction) -> tirx.PrimFunc:
        return our_kernel(function.function, compiler_target(self._target))

    def _checked(self, function: FusedFunction, example: Example, kernel: tirx.PrimFunc) -> CheckedLibrary:
        return CheckedLibrary(function.library(kernel, self._target), example)

    def _trial_ns(self, function: FusedFunction, example: Example, candidate: Candidate) -> float | None:
        """What a candidate takes; None if it cannot be compiled, fails, or gives another result."""
        try:
            return self._cost_ns(self._checked(function, example, candidate.kernel), function.name)
        except (DeviceBusy, DeviceLost):
            raise
        except MeasurementError:
            return None

    def _cost_ns(self, checked: CheckedLibrary, name: str) -> float:
        timing = self._device.platform.workload_timing()
        with self._device.exclusive(), self._device.load_library(checked, name) as source:
            source.warm_up()
            return collect(source, timing).first_quartile

    def _ratio(self, ours: CheckedLibrary, best: CheckedLibrary, name: str) -> tuple[float, float, float] | None:
        """How long the candidate takes compared with ours; None where the machine was too busy to tell."""
        with self._device.exclusive():
            pairs = collect_pairs(
                partial(self._device.load_library, ours, name), partial(self._device.load_library, best, name), _PAIRING
            )
        try:
            return paired_ratio(clean_costs(pairs), _PAIRING.confidence)
        except MeasurementError:
            return None


def _require_tunable(platform: Platform) -> TvmTarget:
    runtime = platform.runtime
    if not isinstance(runtime, TvmRuntime) or runtime.target.kind != "llvm":
        raise TuningError(f"platform {platform.name} cannot be tuned: only kernels that TVM compiles for CPUs are")
    if "latency" not in platform.metrics:
        raise TuningError(f"platform {platform.name} cannot be tuned: it has no clock")
    return runtime.target


def _for_trials(platform: Platform) -> Platform:
    """The platform with our kernels alone, that takes less care over a measurement. Another one would not do."""
    runtime = platform.runtime.model_copy(update={"tuning": None})
    limits = Limits(workload_time_limit_s=_TRIAL_LIMIT_S)
    return platform.model_copy(update={"runtime": runtime, "protocol": limits, "fallback": ()})


def _records(path: Path, platform: Platform, target: TvmTarget) -> Records:
    if not path.exists():
        return Records.empty(platform.name, platform.tier, cpu_fields(target))
    records = Records.read(path)
    if (records.platform, records.tier) != (platform.name, platform.tier):
        raise TuningError(
            f"{path}: these are records of platform {records.platform} ({records.tier}), not of {platform.name}"
            f" ({platform.tier}); give another file with --records"
        )
    records.require(cpu_fields(target), str(path))
    return records


def _is_equal(a: tirx.PrimFunc, b: tirx.PrimFunc) -> bool:
    import tvm_ffi

    return bool(tvm_ffi.structural_equal(a, b))


def _is_plain(type_: Any) -> bool:
    return isinstance(type_, relax.TensorType) and str(type_.dtype) == _FLOAT and type_.shape is not None


def _tensor(name: str, type_: Any) -> Tensor:
    shape = tuple(int(length) for length in type_.shape)
    return Tensor(name, shape, str(type_.dtype), tuple(range(len(shape))))


def _tensor_type(tensor: Tensor) -> Any:
    return relax.TensorType(tensor.shape, tensor.dtype)
