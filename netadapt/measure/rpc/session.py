"""A session on a board, as the worker process sees it: connect, upload, run, check, time.

Imports TVM. Any call can hang when a board does: the process that started the worker watches the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import tvm
from numpy.typing import NDArray
from tvm.runtime.vm import VirtualMachine

from netadapt.errors import DeviceBusy, DeviceError, DeviceLost, KernelCrashed, NetAdaptError, SessionTimeout
from netadapt.measure.rpc.answers import UnusableAnswer, description_of
from netadapt.measure.rpc.blocks import BlockTime, BlockTimes, State
from netadapt.measure.rpc.emulated import simulation_request
from netadapt.measure.rpc.handshake import KeyRefused, connected
from netadapt.measure.rpc.relay import Relay
from netadapt.measure.rpc.relay_process import CUT_OFF
from netadapt.measure.rpc.tracker import Board, Tracker, host_and_port
from netadapt.measure.tvm.library import ENTRY, Library
from netadapt.measure.tvm.reference import Example, require_equal

#: What a worker is doing; each has a time limit of its own. "asking" a tracker, or what became of a session; "waiting"
#: while all boards are in use.
Stage = Literal["compiling", "waiting", "connecting", "running", "asking"]
Report = Callable[[Stage], None]

#: When a busy server is asked again, at first and at last: it may just be ending a session, or serve a long one.
_FIRST_POLL_S = 0.02
_LAST_POLL_S = 0.5
#: In this time a tracker notices that a server is gone, and a server that its session is.
_NOTICE_S = 0.3
#: Version of the device server's functions that is spoken here.
_PROTOCOL = 1
#: TVM's number of the mode in which threads take the big cores first.
_BIG_CORES_FIRST = 1
_UNKNOWN_ENDING = "its server does not tell how"


@dataclass(frozen=True, slots=True)
class Where:
    """How boards are reached, and for how long they are waited for."""

    server: str | None
    tracker: str | None
    key: str
    connect_limit_s: float
    busy_limit_s: float
    session_limit_s: float


class Session:
    """A session of TVM's RPC on one board.

    Args:
        where: how to reach a board.
        report: told what this is about to do.
        relay: what stands between the board and this process.

    Raises:
        DeviceBusy, DeviceLost: there is no board that answers.
        DeviceError: the board has another version of TVM, or of the device server.

    """

    def __init__(self, where: Where, report: Report, relay: Relay) -> None:
        self._where = where
        self._report = report
        self._relay = relay
        self._board, self._remote = _connected(where, report, relay, where.busy_limit_s)
        self._loaded = 0
        report("running")
        #: What the board says of itself; empty where the server is not netadapt's own.
        self.description = _description(self._remote, self._address)
        self._require_version()

    def load_vm(self, library: Library, target_kind: str, threads: int) -> VmProgram:
        """Upload a compiled model and load it.

        Raises:
            DeviceError: the board has no such device.

        """
        file = self._new_file("so")
        return VmProgram(self._remote, file, library, target_kind, threads, own_server=bool(self.description))

    def load_ort(self, model: bytes, threads: int) -> OrtProgram:
        """Upload an ONNX model and open it in the board's ONNX Runtime.

        Raises:
            DeviceError: the board does not serve ONNX Runtime.

        """
        if not self.description.get("onnxruntime"):
            raise DeviceError(
                f"the board at {self._address} does not serve ONNX Runtime: run netadapt-device there, and install"
                " onnxruntime beside it"
            )
        return OrtProgram(self._remote, self._new_file("onnx"), model, threads)

    def simulate(self, program: VmProgram, alone: bool) -> str:
        """Let a simulated board run a model as its core would; gives the timing plugin's report.

        Args:
            program: a model that is loaded here.
            alone: whether its weights are not in the caches, as those of a layer inside a network.

        """
        request = simulation_request(program.library, alone)
        return str(self._remote.get_function("netadapt.simulate")(program.file, request))

    def failure(self, error: Exception, name: str) -> DeviceError:
        """Tell what it means that something failed while the board had a model."""
        if isinstance(error, UnusableAnswer):
            return DeviceError(f"{name}: the board at {self._address}: {error}")
        text = str(error)
        if "RPCSessionTimeoutError" in text:
            return self._overdue(name)
        if CUT_OFF in text:
            return _cut_off(text, self._address)
        if _answers(self._remote):
            return DeviceError(f"{name}: the board at {self._address} says: {_gist(text)}")
        # The board serves nobody else before it knows that this session is over.
        self._remote = None
        self._report("asking")
        time.sleep(_NOTICE_S)
        return self._loss(name)

    @property
    def _address(self) -> str:
        return f"{self._board.host}:{self._board.port}"

    def _new_file(self, ending: str) -> str:
        # A library that is loaded must not be written over.
        self._loaded += 1
        return f"model{self._loaded}.{ending}"

    def _require_version(self) -> None:
        board = self.description
        if board and board["tvm"] != tvm.__version__:
            raise _other_tvm(self._address, f"TVM {board['tvm']}")
        if board and board["protocol"] != _PROTOCOL:
            raise DeviceError(
                f"netadapt-device at {self._address} speaks version {board['protocol']} of its protocol, this netadapt"
                f" version {_PROTOCOL}; install the same version of netadapt on both"
            )

    def _overdue(self, name: str) -> SessionTimeout:
        return SessionTimeout(
            f"{name}: the board at {self._address} did not end it within {self._where.session_limit_s:g} s"
            " (rpc.session_limit_s of the platform), and the session was stopped"
        )

    def _loss(self, name: str) -> DeviceError:
        """Find out who ended the session: the model, the limit, or whatever took the board away."""
        try:
            ending = self._ending()
        except NetAdaptError as error:
            return DeviceLost(f"{name}: the board at {self._address} was lost with the model on it: {error}")
        if ending == "limit":
            return self._overdue(name)
        if ending is None:
            return DeviceLost(f"{name}: the connection to the board at {self._address} was cut")
        return KernelCrashed(f"{name}: the model ended its process on the board at {self._address} ({ending})")

    def _ending(self) -> str | None:
        """How the last session ended, as the server says; None when it ended by itself.

        Raises:
            DeviceLost: there is no server any more.

        """
        where = self._where
        if where.tracker:
            registered = [address for _, address in Tracker(where.tracker, where.connect_limit_s).servers()]
            if (self._board.host, self._board.port) not in registered:
                raise DeviceLost(f"it is no longer registered at the tracker {where.tracker}")
        try:
            board, remote = _connected(where, self._report, self._relay, where.connect_limit_s)
        except DeviceBusy:
            # Somebody else has it already, so it runs.
            return _UNKNOWN_ENDING
        if (board.host, board.port) != (self._board.host, self._board.port):
            return _UNKNOWN_ENDING
        ending: str | None = _description(remote, self._address).get("previous", _UNKNOWN_ENDING)
        return ending


class VmProgram:
    """A compiled model in TVM's virtual machine on a board."""

    def __init__(
        self, remote: Any, file: str, library: Library, target_kind: str, threads: int, own_server: bool
    ) -> None:
        #: Its name on the board.
        self.file = file
        self.library = library
        self._remote = remote
        self._kind = "opencl" if target_kind == "opencl" else "cpu"
        self._own_server = own_server
        self._device = remote.device(self._kind, 0)
        if self._kind == "opencl" and not self._device.exist:
            raise DeviceError(
                "the board's TVM runtime has no OpenCL device; it needs one that was built with OpenCL"
                " (docs/add-a-phone.md)"
            )
        remote.get_function("runtime.config_threadpool")(_BIG_CORES_FIRST, threads)
        remote.upload(bytearray(library.content), file)
        self._machine = VirtualMachine(remote.load_module(file), self._device)

    def check(self, example: Example, name: str) -> float:
        """Run the model on the example's inputs, which stay set; gives the largest absolute difference of an output.

        Raises:
            KernelInvalid: an output is not what the example expects.

        """
        inputs, outputs = self.library.inputs, self.library.outputs
        arrays = [tensor.to_device(example.inputs[tensor.name]) for tensor in inputs]
        self._machine.set_input(ENTRY, *(tvm.runtime.tensor(array, self._device) for array in arrays))
        self._machine.invoke_stateful(ENTRY)
        found = self._machine.get_outputs(ENTRY)
        tensors = found if isinstance(found, tuple) else (found,)
        arrays = [output.from_device(tensor.numpy()) for output, tensor in zip(outputs, tensors, strict=True)]
        return require_equal(arrays, [example.outputs[output.name] for output in outputs], name)

    def blocks(self, runs: int, count: int) -> BlockTimes:
        """Time blocks of runs on the board."""
        if self._own_server:
            time_blocks = self._remote.get_function("netadapt.blocks")
            return BlockTimes.from_answer(time_blocks(self._machine.module, ENTRY, self._kind, runs, count), count)
        timer = self._machine.time_evaluator("invoke_stateful", self._device, number=runs, repeat=count)
        return BlockTimes(tuple(BlockTime(seconds * 1e9 * runs) for seconds in timer(ENTRY).results), State())


class OrtProgram:
    """A model in a board's ONNX Runtime."""

    def __init__(self, remote: Any, file: str, model: bytes, threads: int) -> None:
        self._remote = remote
        remote.upload(bytearray(model), file)
        self._model = int(remote.get_function("netadapt.ort_open")(file, threads))

    def check(self, example: Example, name: str) -> float:
        """Run the model on the example's inputs; see `VmProgram.check`."""
        set_input, run, output = (
            self._remote.get_function(f"netadapt.ort_{part}") for part in ("set_input", "run", "output")
        )
        device = self._remote.cpu(0)
        for key, array in example.inputs.items():
            set_input(self._model, key, tvm.runtime.tensor(array, device))
        run(self._model)
        found: list[NDArray[Any]] = [output(self._model, index).numpy() for index in range(len(example.outputs))]
        return require_equal(found, list(example.outputs.values()), name)

    def blocks(self, runs: int, count: int) -> BlockTimes:
        """Time blocks of runs on the board."""
        return BlockTimes.from_answer(self._remote.get_function("netadapt.ort_blocks")(self._model, runs, count), count)


def _connected(where: Where, report: Report, relay: Relay, busy_limit_s: float) -> tuple[Board, Any]:
    """A board, and a session there.

    Raises:
        DeviceBusy: none was free in time.
        DeviceLost: nothing answers, or not as a server does.
        DeviceError: it refuses this client for another reason.

    """
    deadline = time.monotonic() + busy_limit_s
    pause_s = _FIRST_POLL_S
    while True:
        board = _board(where, report, deadline - time.monotonic())
        report("connecting")
        try:
            return board, _begun(board, where, relay)
        except (DeviceBusy, KeyRefused) as error:
            refusal = _refusal(error, board, where)
        if not isinstance(refusal, DeviceBusy) or time.monotonic() >= deadline:
            raise refusal
        report("waiting")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LAST_POLL_S)


def _begun(board: Board, where: Where, relay: Relay) -> Any:
    connection = connected(board, where.session_limit_s, where.connect_limit_s)
    try:
        return relay.session(connection)
    except Exception as error:  # TVM raises errors of many types
        text = str(error)
    address = f"{board.host}:{board.port}"
    if CUT_OFF in text:
        raise _cut_off(text, address)
    if "protocol" in text and "version" in text:
        raise _other_tvm(address, "another version of TVM")
    raise DeviceLost(f"the board at {address} does not begin a session: {_gist(text)}")


def _board(where: Where, report: Report, busy_limit_s: float) -> Board:
    if where.tracker:
        report("asking")
        tracker = Tracker(where.tracker, where.connect_limit_s)
        return tracker.acquire(where.key, max(0.0, busy_limit_s), lambda: report("waiting"))
    assert where.server
    return Board(*host_and_port(where.server), where.key)


def _refusal(error: DeviceError, board: Board, where: Where) -> DeviceError:
    """Return the error for a server that does not take this client."""
    address = f"{board.host}:{board.port}"
    if isinstance(error, DeviceBusy):
        return DeviceBusy(f"the board at {address} served other clients for {where.busy_limit_s:g} s")
    # The tracker's key may have been replaced just now.
    kind = DeviceBusy if where.tracker else DeviceError
    return kind(f"the board at {address} does not take the key {where.key!r}; see its --key, or use its tracker")


def _cut_off(text: str, address: str) -> DeviceError:
    what = text.partition(CUT_OFF)[2].partition("\n")[0]
    return DeviceError(
        f"the board at {address} was cut off: it sent {what[:100]}; see that it is the board you mean, and that nobody"
        " else can answer at its address"
    )


def _other_tvm(address: str, found: str) -> DeviceError:
    return DeviceError(
        f"the board at {address} has {found}, this machine has TVM {tvm.__version__}; install the same version there:"
        f" pip install apache-tvm=={tvm.__version__}"
    )


def _description(remote: Any, address: str) -> dict[str, Any]:
    """What a board says of itself; nothing if its server is not netadapt's own.

    Raises:
        DeviceLost: the session ended meanwhile.
        DeviceError: the board cannot say it.

    """
    try:
        return _what_it_says(remote)
    except UnusableAnswer as error:
        usable, text = False, str(error)
    except Exception as error:  # TVM raises errors of many types
        usable, text = True, str(error)
    # Not in the handler: the error's frames hold what keeps the session open.
    if CUT_OFF in text:
        raise _cut_off(text, address)
    if not usable or _answers(remote):
        raise DeviceError(f"the board at {address} cannot say what it is: {_gist(text)}")
    raise DeviceLost(f"the board at {address} was lost before it said what it is: {_gist(text)}")


def _what_it_says(remote: Any) -> dict[str, Any]:
    try:
        describe = remote.get_function("netadapt.describe")
    except AttributeError:
        return {}
    return description_of(describe())


def _answers(remote: Any) -> bool:
    """Whether a session is alive: what failed was then an error that the board raised."""
    try:
        remote.get_function("tvm.rpc.server.workpath")
    except Exception:
        return False
    return True


def _gist(text: str) -> str:
    """The lines of an error of TVM's that say what was wrong, without its stack."""
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.startswith(("File ", "Traceback", "[bt]", "at "))]
    return " ".join(telling[:4])[:500]
