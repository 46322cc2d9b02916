"""Boards: models compiled for them, or ONNX files, are uploaded, checked and timed there, over TVM's RPC.

What a model computes on the board is compared with ONNX Runtime on this machine before it is timed. All that can hang
happens in worker processes that are ended when a limit has passed. A measurement that loses its board, or that ends its
session there, is tried once more in another session.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netadapt.errors import (
    DeviceBusy,
    DeviceLost,
    KernelCrashed,
    MeasurementError,
    NetAdaptError,
    SessionTimeout,
)
from netadapt.measure import machine
from netadapt.measure.device import Check, Device, Model
from netadapt.measure.local import version
from netadapt.measure.lock import OnWait
from netadapt.measure.measurement import Measurement, Provenance
from netadapt.measure.model_file import model_bytes, model_name
from netadapt.measure.platform import Platform, Rpc, TvmRuntime
from netadapt.measure.protocol import Block, BlockSource, Sample, Timing, latency_of
from netadapt.measure.rpc.boards import KEY, EmulatedBoards
from netadapt.measure.rpc.emulated import emulated_core
from netadapt.measure.rpc.supervisor import Worker
from netadapt.measure.rpc.tracker import Tracker, host_and_port
from netadapt.measure.simulator.costs import simulated_costs, simulated_provenance
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.simulator.device import SimulatedSource
from netadapt.measure.simulator.device import identity as simulated_identity
from netadapt.measure.simulator.energy import latency_ns
from netadapt.measure.simulator.guest import PATIENCE_S
from netadapt.measure.simulator.install import missing, require
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.network.workload import EMPTY_RUN, Workload

#: Forms of what is measured: a model as it is, an operation as it runs inside a network, or code compiled already.
MODEL = "model"
OPERATION = "operation"
LIBRARY = "library"
#: What a second session may not meet again.
_WORTH_ANOTHER_SESSION = (DeviceLost, SessionTimeout, KernelCrashed)
#: How long a throttled board is waited for, at most.
_COOLING_LIMIT_S = 20.0
#: Emulated boards take minutes for a large network, and are not lost by a network.
_EMULATED = Rpc(connect_limit_s=60, busy_limit_s=PATIENCE_S, session_limit_s=PATIENCE_S)
_DISTRIBUTIONS = {"tvm": "apache-tvm", "ort": "onnxruntime"}
_SERVER = Path(__file__).parent / "on_device" / "netadapt_device.py"


def open_device(platform: Platform, requested: str, on_wait: OnWait | None) -> Device:
    """Open the boards of a platform; emulated ones are started when the first model is measured.

    Raises:
        SetupError: the simulator, for emulated boards, is not set up.
        DeviceLost: neither a server nor a tracker answers at the platform's address.
        MeasurementError: TVM is not installed.

    """
    _require_client(platform)
    if platform.emulated:
        require(platform.name)
    else:
        _require_answer(limits(platform))
    return RpcDevice(platform, requested, on_wait)


def identity(platform: Platform) -> dict[str, str]:
    """The board, what compiles for it, and for a simulated one everything that moves a cycle."""
    facts = {"board": limits(platform).board}
    if platform.runtime.name == "tvm":
        from netadapt.measure.tvm import compile as compiler

        facts |= compiler.identity(platform.runtime.target.kind) | compiler.tuning_identity(platform.runtime)
    if platform.core:
        # A server that allocates differently moves the heap of what is measured.
        facts |= simulated_identity(platform) | {"server": hashlib.sha256(_SERVER.read_bytes()).hexdigest()[:16]}
    return facts


def check(platform: Platform) -> list[Check]:
    """Check what measuring over RPC needs here, that the boards answer, and what the first says of itself."""
    checks = [_installed("apache-tvm")]
    if platform.emulated:
        checks += [_installed("tornado"), *missing()]
    if isinstance(platform.runtime, TvmRuntime):
        checks.append(_linker(platform.runtime))
    try:
        with open_device(platform, platform.name, None) as device:
            assert isinstance(device, RpcDevice)
            checks.append(Check("boards", True, f"{device.capacity} to measure at once"))
            facts = device.workload_details(EMPTY_RUN)
    except NetAdaptError as error:
        return [*checks, Check("measuring", False, str(error))]
    board = facts["board"]
    said = ", ".join(f"{name} {board[name]}" for name in ("machine", "os", "tvm", "onnxruntime") if board.get(name))
    return [*checks, Check("measuring", True, said or "a server of TVM's own, which does not say what it runs on")]


def limits(platform: Platform) -> Rpc:
    """The section `rpc` of a platform; the default for emulated boards where it has none."""
    return platform.rpc or _EMULATED


@dataclass(frozen=True, slots=True)
class _Job:
    """A model to run on a board."""

    model: bytes
    name: str
    form: str
    timing: Timing

    @property
    def key(self) -> tuple[str, str]:
        return hashlib.sha256(self.model).hexdigest(), self.form


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a board told about a model that it ran."""

    #: See `Device.details`.
    facts: dict[str, Any]
    #: From a real clock.
    sample: Sample | None = None
    #: From a simulated one.
    counts: Counts | None = None


class RpcDevice(Device):
    """Boards that are reached over TVM's RPC; measures on as many at once as there are."""

    def __init__(self, platform: Platform, requested: str = "", on_wait: OnWait | None = None) -> None:
        super().__init__(platform, requested)
        if platform.core and platform.runtime.name != "tvm":
            raise MeasurementError(
                f"platform {platform.name}: a simulated board counts the cycles of compiled code only; for"
                f' {platform.runtime.name} take transport "qemu"'
            )
        self._limits = limits(platform)
        self._core = emulated_core(platform) if platform.core else None
        self._on_wait = on_wait
        self.capacity = self._count_boards()
        #: The boards that this has started; None where they are real.
        self.boards = EmulatedBoards(platform, self.capacity) if platform.emulated else None
        self._idle: list[Worker] = []
        self._closed = False
        self._known: dict[tuple[str, str], _Outcome] = {}
        self._comparing: Worker | None = None
        self._compared = 0
        self._changing = threading.Lock()

    def costs(self, model: Model) -> dict[str, Measurement]:
        """Measure a whole model; see `Device.costs`. Nothing, after a check of the result, where there is no clock."""
        return self._costs(self._model_job(model))

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        """Measure one operation; see `Device.workload_costs`."""
        return self._costs(self._workload_job(workload))

    def details(self, model: Model) -> dict[str, Any]:
        """How far the result is from ONNX Runtime's, the board, and the compiled library; see `Device.details`."""
        return self._details(self._model_job(model))

    def workload_details(self, workload: Workload) -> dict[str, Any]:
        """As `details`, of one operation.

        Raises:
            MeasurementError: as `Device.workload_costs`.

        """
        return self._details(self._workload_job(workload))

    @contextmanager
    def load(self, model: Model) -> Iterator[BlockSource]:
        """Load a model for interleaved timing; see `Device.load`. All that are loaded at once share a session."""
        with self._loaded(self._model_job(model)) as source:
            yield source

    @contextmanager
    def load_library(self, checked: CheckedLibrary, name: str) -> Iterator[BlockSource]:
        """Load compiled code, to be timed as an operation is; as `load`.

        Raises:
            DeviceError: it gives another result than it should (KernelInvalid), or a board or its session fails.

        """
        job = _Job(checked.to_bytes(), name, LIBRARY, self._timing(self.platform.workload_timing()))
        with self._loaded(job) as source:
            yield source

    def forget(self) -> None:
        """Run again what emulated boards ran before; they will tell the same."""
        self._known.clear()

    def close(self) -> None:
        """End all worker processes, emulated boards and their tracker."""
        with self._changing:
            self._closed = True
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.close()
        if self.boards:
            self.boards.close()

    @contextmanager
    def _loaded(self, job: _Job) -> Iterator[BlockSource]:
        if self._core:
            outcome = self._outcome(job, timed=True)
            assert outcome.counts
            yield SimulatedSource(latency_ns(self._core, outcome.counts.cycles))
            return
        if not self.platform.metrics:
            raise MeasurementError(f"platform {self.platform.name} has no clock; its models cannot be timed")
        with self._comparing_worker() as worker:
            opened = self._open(worker, job)
            yield _LoadedProgram(worker, opened["program"], job, self._limits)

    def _costs(self, job: _Job) -> dict[str, Measurement]:
        outcome = self._outcome(job, timed=bool(self.platform.metrics))
        provenance = self._origin(job.form, outcome.facts["board"])
        if self._core and outcome.counts:
            return simulated_costs(self.platform, self._core, outcome.counts, provenance)
        if outcome.sample:
            return {"latency": latency_of(outcome.sample, self.platform.tier, provenance)}
        return {}

    def _details(self, job: _Job) -> dict[str, Any]:
        outcome = self._outcome(job, timed=self._core is not None)
        counts = asdict(outcome.counts) if outcome.counts else {}
        return {**outcome.facts, **counts}

    def _outcome(self, job: _Job, timed: bool) -> _Outcome:
        """Run a model on a board. What a simulated or emulated one told before, it would tell again."""
        if job.key in self._known:
            return self._known[job.key]
        try:
            outcome = self._run(job, timed)
        except _WORTH_ANOTHER_SESSION as first:
            try:
                outcome = self._run(job, timed)
            except (DeviceBusy, DeviceLost):
                # There is no other board: what happened to the model tells more.
                raise first from None
        if self.boards:
            self._known[job.key] = outcome
        return outcome

    def _run(self, job: _Job, timed: bool) -> _Outcome:
        with self._worker() as worker:
            facts = self._open(worker, job)
            program = {"program": facts.pop("program"), "name": job.name}
            if self._core:
                report = worker.ask("simulate", **program, alone=job.form != MODEL)
                return _Outcome(facts, counts=Counts.from_report(report))
            if not timed:
                return _Outcome(facts)
            sample = worker.ask("time", **program, **_conditions(job, self._limits))
            return _Outcome(facts, Sample(**sample))

    def _open(self, worker: Worker, job: _Job) -> dict[str, Any]:
        facts: dict[str, Any] = worker.ask(
            "open_library" if job.form == LIBRARY else "open",
            job.model,
            name=job.name,
            **({} if job.form == LIBRARY else {"interior": job.form == OPERATION}),
            runtime=self.platform.runtime.model_dump(),
            where=self._where(worker),
        )
        return facts

    def _where(self, worker: Worker) -> dict[str, Any]:
        """The fields of `session.Where`."""
        reached = self._limits
        boards = self.boards
        return {
            "server": reached.server,
            "tracker": boards.tracker(lambda: self._warm_up_files(worker)) if boards else reached.tracker,
            "key": KEY if boards else reached.key,
            "connect_limit_s": reached.connect_limit_s,
            "busy_limit_s": reached.busy_limit_s,
            "session_limit_s": reached.session_limit_s,
        }

    def _warm_up_files(self, worker: Worker) -> dict[str, bytes]:
        """What a simulated board needs to start, compiled by the worker: this process stays without TVM."""
        if not self._core:
            return {}
        files = worker.ask("warm_up_files", runtime=self.platform.runtime.model_dump())
        return {name: base64.b64decode(content) for name, content in files.items()}

    def _model_job(self, model: Model) -> _Job:
        return _Job(model_bytes(model), model_name(model), MODEL, self._timing(self.platform.network_timing()))

    def _workload_job(self, workload: Workload) -> _Job:
        from netadapt.network.workload_onnx import workload_to_onnx

        # ONNX Runtime is given a model of the operation, whose images come and go in the file's order.
        form = OPERATION if self.platform.runtime.name == "tvm" else MODEL
        timing = self._timing(self.platform.workload_timing())
        return _Job(workload_to_onnx(workload), str(workload), form, timing)

    def _timing(self, timing: Timing) -> Timing:
        runtime = self.platform.runtime
        if runtime.name == "tvm" and runtime.target.kind == "opencl":
            # The CPU only waits for the GPU.
            return replace(timing, min_cpu_share=0.0)
        return timing

    def _origin(self, form: str, board: dict[str, Any]) -> Provenance:
        runtime = _DISTRIBUTIONS[self.platform.runtime.name]
        if self._core:
            return simulated_provenance(self, self._core, require(self.platform.name), runtime, form)
        return self.provenance(
            form,
            runtime=runtime,
            # TVM's is the same on both sides.
            runtime_version=board["onnxruntime"] if runtime == "onnxruntime" else version(runtime),
            machine_name=board.get("machine", self._limits.board),
            # A server of TVM's own does not tell.
            cores=board.get("cores", 1),
            system=board.get("os", "unknown"),
        )

    def _count_boards(self) -> int:
        """How many boards there are now."""
        if self.platform.emulated:
            return self.platform.emulated.boards or machine.cores()
        if not self._limits.tracker:
            return 1
        servers = Tracker(self._limits.tracker, self._limits.connect_limit_s).servers()
        return max(1, sum(key == self._limits.key for key, _ in servers))

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """A worker for the calling thread alone; its session ends here."""
        worker = self._taken()
        try:
            yield worker
        finally:
            self._give_back(worker)

    @contextmanager
    def _comparing_worker(self) -> Iterator[Worker]:
        """The worker of all models that are loaded at once; its session ends with the last of them."""
        with self._changing:
            worker = self._comparing = self._comparing or self._taken_unlocked()
            self._compared += 1
        try:
            yield worker
        finally:
            with self._changing:
                self._compared -= 1
                last = not self._compared
                if last:
                    self._comparing = None
            if last:
                self._give_back(worker)

    def _taken(self) -> Worker:
        with self._changing:
            return self._taken_unlocked()

    def _taken_unlocked(self) -> Worker:
        return self._idle.pop() if self._idle else Worker(self._limits, self._on_wait)

    def _give_back(self, worker: Worker) -> None:
        """Keep a worker for the next measurement, unless it was ended or interrupted, or there will be none."""
        if worker.usable:
            with suppress(NetAdaptError):
                worker.ask("close")
        with self._changing:
            kept = worker.usable and not self._closed
            if kept:
                self._idle.append(worker)
        if not kept:
            worker.close()


class _LoadedProgram:
    """Blocks of a model that a board has ready, one after the other."""

    def __init__(self, worker: Worker, program: int, job: _Job, reached: Rpc) -> None:
        self._worker = worker
        self._program: dict[str, Any] = {"program": program, "name": job.name}
        self._conditions = _conditions(job, reached)

    def warm_up(self) -> None:
        """Bring the board into the state in which the model is to be timed."""
        self._worker.ask("warm_up", **self._program, **self._conditions)

    def block(self) -> Block:
        """Run one block and tell its cost in ns."""
        return Block(**self._worker.ask("block", **self._program))


def _conditions(job: _Job, reached: Rpc) -> dict[str, Any]:
    """How a program is to be timed, and how fit the board has to be."""
    return {
        "timing": asdict(job.timing),
        "most_celsius": reached.most_celsius,
        # It cools while it has a session, which must not end by that.
        "cooling_limit_s": min(_COOLING_LIMIT_S, reached.session_limit_s / 4),
    }


def _require_client(platform: Platform) -> None:
    for package in ("tvm", "tornado") if platform.emulated else ("tvm",):
        if importlib.util.find_spec(package) is None:
            raise MeasurementError(
                f"platform {platform.name} needs the package {package}; install it with: pip install '.[tvm]' in a"
                " clone of netadapt"
            )


def _require_answer(reached: Rpc) -> None:
    """Raise DeviceLost unless somebody takes connections at the address."""
    if reached.tracker:
        Tracker(reached.tracker, reached.connect_limit_s).servers()
        return
    assert reached.server
    try:
        socket.create_connection(host_and_port(reached.server), timeout=reached.connect_limit_s).close()
    # The latter: what is no name of a host.
    except (OSError, ValueError) as error:
        raise DeviceLost(
            f"no board answers at {reached.server} ({error}); see that its server runs and that the address is right"
        ) from error


def _installed(distribution: str) -> Check:
    found = version(distribution)
    return Check(distribution, found != "absent", f"version {found}")


def _linker(runtime: TvmRuntime) -> Check:
    from netadapt.measure.tvm.linker import link_command

    try:
        return Check("linker", True, " ".join(link_command(runtime.target)))
    except MeasurementError as error:
        return Check("linker", False, str(error))
