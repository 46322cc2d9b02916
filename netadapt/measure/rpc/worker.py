"""The process that compiles models and talks to boards; `supervisor.Worker` starts it, and may end it at any time.

Requests come on standard input: a line of JSON, whose `bytes` tells how many bytes of a model follow. Each is answered
on standard output by a line of JSON, `{"answer": ...}` or `{"error": {"type": ..., "message": ...}}`; lines
`{"stage": ...}` before it tell what is being done. The process ends when standard input does.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from netadapt.errors import NetAdaptError
from netadapt.measure.platform import Runtime, TvmRuntime
from netadapt.measure.protocol import Timing, collect
from netadapt.measure.rpc.answers import UnusableAnswer
from netadapt.measure.rpc.blocks import RemoteSource
from netadapt.measure.rpc.emulated import warm_up_files
from netadapt.measure.rpc.processes import confine
from netadapt.measure.rpc.relay import Relay
from netadapt.measure.rpc.session import OrtProgram, Report, Session, VmProgram, Where
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.library import Library
from netadapt.measure.tvm.reference import Example, example

#: How many compiled models a worker keeps.
REMEMBERED = 4
_RUNTIME: TypeAdapter[Runtime] = TypeAdapter(Runtime)


class Work:
    """What requests are about: at most one session, and the programs that are loaded there. Methods are requests."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._session: Session | None = None
        self._relay: Relay | None = None
        self._programs: list[VmProgram | OrtProgram] = []
        self._sources: dict[int, RemoteSource] = {}
        self._preparing = _Preparing()

    def open(
        self, model: bytes, name: str, interior: bool, runtime: dict[str, Any], where: dict[str, Any]
    ) -> dict[str, Any]:
        """Compile a model, load it on a board, and check what it computes there."""
        self._report("compiling")
        expected, library = self._preparing.prepared(model, name, interior, _RUNTIME.validate_python(runtime))
        return self._opened(library or model, expected, name, runtime, where)

    def open_library(self, model: bytes, name: str, runtime: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
        """Load compiled code on a board, and check what it computes there; the bytes are a `CheckedLibrary`."""
        checked = CheckedLibrary.from_bytes(model)
        return self._opened(checked.library, checked.example, name, runtime, where)

    def _opened(
        self, model: Library | bytes, expected: Example, name: str, runtime: dict[str, Any], where: dict[str, Any]
    ) -> dict[str, Any]:
        if self._session is None:
            self._relay = self._relay or Relay()
            self._session = Session(Where(**where), self._report, self._relay)
        self._report("running")
        with self._on_board(name) as session:
            program: VmProgram | OrtProgram
            if isinstance(model, Library):
                program = session.load_vm(model, runtime["target"]["kind"], runtime["threads"])
            else:
                program = session.load_ort(model, runtime["threads"])
            difference = program.check(expected, name)
        self._programs.append(program)
        return {
            "program": len(self._programs) - 1,
            "board": session.description,
            "max_abs_difference": difference,
            "general_kernels": list(model.general_kernels) if isinstance(model, Library) else [],
            "library_bytes": len(model.content if isinstance(model, Library) else model),
        }

    def warm_up_files(self, runtime: dict[str, Any]) -> dict[str, str]:
        """Compile what a simulated board warms itself up with; contents of files, in base64."""
        self._report("compiling")
        compiled = _RUNTIME.validate_python(runtime)
        assert isinstance(compiled, TvmRuntime)
        return {name: base64.b64encode(content).decode() for name, content in warm_up_files(compiled).items()}

    def time(
        self, program: int, name: str, timing: dict[str, Any], most_celsius: float, cooling_limit_s: float
    ) -> dict[str, Any]:
        """Time a program by the protocol; gives a `Sample`."""
        self._report("running")
        parameters = Timing(**timing)
        batch = parameters.check_every
        source = RemoteSource(self._programs[program], parameters, most_celsius, cooling_limit_s, batch)
        with self._on_board(name):
            source.warm_up()
            return asdict(collect(source, parameters))

    def warm_up(
        self, program: int, name: str, timing: dict[str, Any], most_celsius: float, cooling_limit_s: float
    ) -> None:
        """Make a program ready for `block`."""
        self._report("running")
        parameters = Timing(**timing)
        self._sources[program] = RemoteSource(self._programs[program], parameters, most_celsius, cooling_limit_s)
        with self._on_board(name):
            self._sources[program].warm_up()

    def block(self, program: int, name: str) -> dict[str, Any]:
        """Take a `Block` of a program."""
        self._report("running")
        with self._on_board(name):
            return asdict(self._sources[program].block())

    def simulate(self, program: int, name: str, alone: bool) -> str:
        """Let a simulated board run a program; gives the timing plugin's report."""
        self._report("running")
        loaded = self._programs[program]
        assert isinstance(loaded, VmProgram)
        with self._on_board(name) as session:
            return session.simulate(loaded, alone)

    def close(self) -> None:
        """End the session. TVM has no call for that: it ends when nothing refers to it any more."""
        self._report("asking")
        self._programs.clear()
        self._sources.clear()
        self._session = None
        gc.collect()

    @contextmanager
    def _on_board(self, name: str) -> Iterator[Session]:
        """Say what it means when something fails meanwhile."""
        assert self._session
        try:
            yield self._session
        except UnusableAnswer as error:
            failure = self._session.failure(error, name)
        except NetAdaptError:
            raise
        except Exception as error:  # TVM raises errors of many types
            failure = self._session.failure(error, name)
        else:
            return
        # Not in the handler: the error's frames hold what keeps the session open.
        raise failure


class _Preparing:
    """Compiles models and runs them on this machine; remembers some, for second attempts and comparisons."""

    def __init__(self) -> None:
        #: The one that was asked for last is the last.
        self._remembered: dict[tuple[bytes, bool, str], tuple[Example, Library | None]] = {}

    def prepared(self, model: bytes, name: str, interior: bool, runtime: Runtime) -> tuple[Example, Library | None]:
        """What the model should compute, and the model as a library where the board's runtime takes one."""
        key = (model, interior, runtime.model_dump_json())
        known = self._remembered.pop(key, None)
        # The example first, for it tells faults of the model itself.
        self._remembered[key] = known or (example(model, name), _compiled(model, name, interior, runtime))
        if len(self._remembered) > REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return self._remembered[key]


def _compiled(model: bytes, name: str, interior: bool, runtime: Runtime) -> Library | None:
    return compile_model(model, runtime, interior, name) if isinstance(runtime, TvmRuntime) else None


def main() -> None:
    """Answer requests until standard input ends."""
    confine()
    # Only answers go to what was standard output: libraries print.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    requests: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests.put,), daemon=True).start()
    work = Work(lambda stage: say({"stage": stage}))
    while True:
        say(_answer(work, *requests.get()))


def _answer(work: Work, request: dict[str, Any], model: bytes) -> dict[str, Any]:
    do = getattr(work, request.pop("do"))
    fields = {**request, "model": model} if model else request
    try:
        return {"answer": do(**fields)}
    except NetAdaptError as error:
        return {"error": {"type": type(error).__name__, "message": str(error)}}
    except Exception as error:
        return {"error": {"type": "MeasurementError", "message": f"{type(error).__name__}: {error}"}}


def _read(put: Callable[[tuple[dict[str, Any], bytes]], None]) -> None:
    """Read requests; ends this process, whatever it is doing, when there is nobody left to answer."""
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        put((request, sys.stdin.buffer.read(request.pop("bytes"))))
    os._exit(0)
