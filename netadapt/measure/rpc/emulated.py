"""Boards that are processes of QEMU on this machine. They run the server that real boards run, and so the same path.

With a core model, sessions can also have the board count the simulated cycles of a run: see in_guest/board.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from netadapt.errors import MeasurementError
from netadapt.measure.platform import Platform, TvmRuntime
from netadapt.measure.rpc import on_device
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.guest import SMALL_INSTRUCTIONS, START_LIMIT_S
from netadapt.measure.simulator.guest_process import GuestProcess, RunsInGuest
from netadapt.measure.simulator.install import require
from netadapt.measure.simulator.runtimes import WARM_UP
from netadapt.measure.tvm.library import Library

_DEFAULT_CPU = "cortex-a72"
_SERVER = Path(on_device.__file__).with_name("netadapt_device.py")
_LIBRARY = "warm_up.so"


class EmulatedBoard(RunsInGuest):
    """A board that runs; a context manager.

    Args:
        platform: one with emulated boards, with or without a core model.
        tracker: HOST:PORT of a tracker of TVM's that the board registers at.
        key: what clients ask the tracker for.
        warm_up: what `warm_up_files` gives, where another process has compiled it; None compiles it here.

    Raises:
        SetupError: the simulator is not set up.
        UnknownNameError, DefinitionError: there is no usable core file.
        MeasurementError: it did not start; says why.

    """

    def __init__(
        self,
        platform: Platform,
        tracker: str | None = None,
        key: str = "",
        warm_up: Mapping[str, bytes] | None = None,
    ) -> None:
        installation = require(platform.name)
        core = emulated_core(platform)
        simulated = platform.core is not None
        files = {_SERVER.name: _SERVER.read_bytes(), "board.json": _options(tracker, key)}
        if simulated:
            assert isinstance(platform.runtime, TvmRuntime)
            files |= warm_up or warm_up_files(platform.runtime)
        modules = ("marks", "server", "tvm_program", "board")
        self._process = GuestProcess(installation, core, modules, files, timed=simulated, serves=True)
        try:
            self.address = f"127.0.0.1:{self._await_port()}"
        except BaseException:
            self.close()
            raise

    def _await_port(self) -> int:
        deadline = time.monotonic() + START_LIMIT_S
        what = f"the start of a board for {self._process.core.name}"
        line = b""
        while not line.endswith(b"\n"):
            line += self._process.read_byte(max(0.0, deadline - time.monotonic()), what)
        words = line.split()
        if len(words) != 2 or words[0] != b"READY":
            raise MeasurementError(f"{what}: it says {line!r}, expected its port{self._process.last_words()}")
        return int(words[1])


def emulated_core(platform: Platform) -> Core:
    """What an emulated board shows as its core; with a core model, the one whose cycles it counts.

    Raises:
        UnknownNameError, DefinitionError: there is no usable core file.

    """
    assert platform.emulated
    return load_core(platform.core or platform.emulated.cpu or _DEFAULT_CPU)


def simulation_request(library: Library, alone: bool) -> str:
    """What `netadapt.simulate` of a simulated board is asked, besides the name of the uploaded library.

    Args:
        library: the library that was uploaded.
        alone: whether its weights are not in the caches, as those of a layer inside a network.

    """
    inputs = [([tensor.shape[axis] for axis in tensor.axes], tensor.dtype) for tensor in library.inputs]
    return json.dumps({"alone": alone, "inputs": inputs})


def warm_up_files(runtime: TvmRuntime) -> dict[str, bytes]:
    """The files of a small model for the process that measures to set itself up with; imports TVM.

    Raises:
        MeasurementError: TVM cannot compile it.

    """
    from netadapt.measure.tvm.compile import compile_model
    from netadapt.network.workload_onnx import workload_to_onnx

    library = compile_model(workload_to_onnx(WARM_UP), runtime, interior=True)
    request = json.loads(simulation_request(library, alone=False)) | {"files": [_LIBRARY]}
    return {_LIBRARY: library.content, "warm_up.json": json.dumps(request, sort_keys=True).encode()}


def _options(tracker: str | None, key: str) -> bytes:
    host, _, port = (tracker or "").rpartition(":")
    options = {
        "tracker": [host.strip("[]"), int(port)] if tracker else None,
        "key": key,
        "small_instructions": SMALL_INSTRUCTIONS,
    }
    return json.dumps(options).encode()
