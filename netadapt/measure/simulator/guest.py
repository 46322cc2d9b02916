"""A process of QEMU that has a runtime loaded and measures models in forks of itself (see in_guest/server.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.simulator.guest_process import GuestProcess, RunsInGuest, ended
from netadapt.measure.simulator.install import Installation

#: Runs that take fewer instructions than this are timed when everything is warm, larger ones as they are the first
#: time: for them it changes 0.2 % in sum, and a second run would double the time it takes.
SMALL_INSTRUCTIONS = 3_000_000
START_LIMIT_S = 120.0
#: Nothing that anybody adapts takes so long: resnet18 at 224x224 takes about 15 s.
PATIENCE_S = 900.0
#: Exit code of a fork that tells in `error.json` what was wrong.
_FAILED = 3
#: What a runtime raises, or ONNX Runtime's `Fail` says, where it has no such operator.
_LACKING = ("NotImplemented", "ValueError")
_UNKNOWN_OPERATOR = ("is not a registered function/op", "No Op registered for")


@dataclass(frozen=True)
class Request:
    """A model as a runtime in the guest takes it.

    `program` is the runtime's module in in_guest/; `files` are put into the guest's working folder, the model first.
    """

    program: str
    files: Mapping[str, bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    #: What errors call the model; the guest is not told.
    name: str = "model"

    def to_json(self, profile: bool) -> bytes:
        """Write the request as the guest reads it."""
        fields = {
            **self.options,
            "files": list(self.files),
            "profile": profile,
            "small_instructions": SMALL_INSTRUCTIONS,
        }
        return json.dumps(fields, sort_keys=True).encode()


class Guest(RunsInGuest):
    """One QEMU process with one runtime on one core. Not for several threads at once.

    Args:
        installation: where QEMU, the plugin and the guest's files are.
        core: the core to simulate.
        warm_up: a small model for the runtime to set itself up with.
        patience_s: how long a measurement may take.
        remember: False computes each block of instructions anew, which takes longer and must give the same.

    Raises:
        MeasurementError: it did not start; says why.

    """

    def __init__(
        self,
        installation: Installation,
        core: Core,
        warm_up: Request,
        patience_s: float = PATIENCE_S,
        remember: bool = True,
    ) -> None:
        self._patience_s = patience_s
        files = {**warm_up.files, "warm_up.json": warm_up.to_json(profile=False)}
        modules = ("marks", "server", warm_up.program)
        self._process = GuestProcess(installation, core, modules, files, remember=remember)
        try:
            self._process.read_byte(START_LIMIT_S, f"the start of a guest for {core.name}")
        except BaseException:
            self.close()
            raise

    def measure(self, request: Request) -> Counts:
        """Count what one run of a model does.

        Raises:
            ModelError: the runtime cannot load or run the model.
            MeasurementError: it lacks an operator, or the guest died or hangs; it must be closed then.

        """
        self._ask(request, profile=False)
        return Counts.from_report((self.folder / "report.json").read_text())

    def profile(self, request: Request) -> list[dict[str, Any]]:
        """Name, operator and cycles of each layer of one run, in the order of execution.

        Raises:
            ModelError, MeasurementError: as `measure`.

        """
        self._ask(request, profile=True)
        layers: list[dict[str, Any]] = json.loads((self.folder / "answer.json").read_text())["layers"]
        return layers

    def _ask(self, request: Request, profile: bool) -> None:
        for name in ("report.json", "answer.json", "error.json"):
            (self.folder / name).unlink(missing_ok=True)
        try:
            for name, content in request.files.items():
                (self.folder / name).write_bytes(content)
            (self.folder / "request.json").write_bytes(request.to_json(profile))
        except OSError as error:
            raise MeasurementError(f"{self.folder}: cannot write the model for the guest: {error}") from error
        self._process.send_byte()
        run = f"{request.name}: the simulated run on {self._process.core.name}"
        code = self._process.read_byte(self._patience_s, run)[0]
        if code == _FAILED:
            raise self._failure(request.name)
        if code:
            raise MeasurementError(f"{run} {ended(code)}{self._process.last_words()}")

    def _failure(self, name: str) -> MeasurementError | ModelError:
        failure = json.loads((self.folder / "error.json").read_text())
        message = f"{name}: cannot be run on {self._process.core.name}: the guest's runtime says {failure['type']}: "
        message += failure["message"]
        lacking = failure["type"] in _LACKING or any(words in message for words in _UNKNOWN_OPERATOR)
        return MeasurementError(message) if lacking else ModelError(message)
