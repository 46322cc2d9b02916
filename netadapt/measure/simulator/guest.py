"""A process of QEMU that has a runtime loaded and measures models in forks of itself (see in_guest/server.py)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.simulator.install import Installation
from netadapt.measure.simulator.install.guest_root import guest_root

_SCRIPTS = Path(__file__).parent / "in_guest"
_PYTHON = "usr/bin/python3.11"
#: The guest is told nothing about the host: neither its paths nor its environment nor its kernel. Cycles would depend
#: on it through the layout of memory.
_ADDRESS_SPACE = "0x8000000000"
_STACK_BYTES = "8388608"
_KERNEL = "5.10.0"
_ENVIRONMENT = {
    "LANG": "C",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
_PATH = ["/usr/lib/python3.11", "/usr/lib/python3.11/lib-dynload", "/netadapt/site"]
#: Runs that take fewer instructions than this are timed when everything is warm, larger ones as they are the first
#: time: for them it changes 0.2 % in sum, and a second run would double the time it takes.
_SMALL_INSTRUCTIONS = 3_000_000
_START_LIMIT_S = 120.0
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
            "small_instructions": _SMALL_INSTRUCTIONS,
        }
        return json.dumps(fields, sort_keys=True).encode()


class Guest:
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
        self._core = core
        self._patience_s = patience_s
        self._remember = remember
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="netadapt-guest-"))
        except OSError as error:
            raise MeasurementError(f"cannot make a folder for a guest: {error}") from error
        try:
            self._prepare(installation, warm_up)
            self._process = self._start(installation, warm_up)
            self._await(_START_LIMIT_S, f"the start of a guest for {core.name}")
        except OSError as error:
            self.close()
            raise MeasurementError(f"cannot start a guest for {core.name}: {error}") from error
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

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of QEMU, which leads a process group of its own."""
        return self._process.pid

    def close(self) -> None:
        """End the process, and whatever it has forked, and remove its folder."""
        process = getattr(self, "_process", None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                # What was not sent yet cannot be sent any more.
                with contextlib.suppress(OSError):
                    stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, installation: Installation, warm_up: Request) -> None:
        core = self._core
        root = guest_root(installation, core.shown_cpu, core.mhz, [cache.size_bytes for cache in core.caches])
        (self.folder / "root").symlink_to(root, target_is_directory=True)
        (self.folder / "core.model").write_text(core.plugin_text())
        for script in _SCRIPTS.glob("*.py"):
            shutil.copyfile(script, self.folder / script.name)
        self._put("warm_up.json", warm_up, profile=False)

    def _start(self, installation: Installation, warm_up: Request) -> subprocess.Popen[bytes]:
        # QEMU takes a comma for the end of the path unless there are two.
        library, capstone = (
            str(path).replace(",", ",,") for path in (installation.plugin, installation.capstone_library)
        )
        plugin = f"{library},model=core.model,capstone={capstone},report=report.json"
        plugin += "" if self._remember else ",replay=off"
        environment = [part for name, value in _ENVIRONMENT.items() for part in ("-E", f"{name}={value}")]
        # What QEMU itself needs is not for the guest.
        environment += [part for name in installation.qemu_environment for part in ("-U", name)]
        machine = ["-R", _ADDRESS_SPACE, "-s", _STACK_BYTES, "-seed", "1", "-r", _KERNEL, "-cpu", self._core.qemu_cpu]
        files = ["-L", "root", "-0", f"/{_PYTHON}"]
        # Not a script given by name: Python would ask for the name of the working folder. Not -I: it would ignore the
        # seed of the hashes.
        python = [f"root/{_PYTHON}", "-s", "-P", "-S", "-c", _bootstrap(warm_up.program)]
        with (self.folder / "stderr.txt").open("wb") as errors:
            return subprocess.Popen(
                ["setarch", "-R", installation.qemu, *machine, *files, *environment, "-plugin", plugin, *python],
                cwd=self.folder,
                env=installation.qemu_environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def _put(self, name: str, request: Request, profile: bool) -> None:
        for file, content in request.files.items():
            (self.folder / file).write_bytes(content)
        (self.folder / name).write_bytes(request.to_json(profile))

    def _ask(self, request: Request, profile: bool) -> None:
        for name in ("report.json", "answer.json", "error.json"):
            (self.folder / name).unlink(missing_ok=True)
        try:
            self._put("request.json", request, profile)
        except OSError as error:
            raise MeasurementError(f"{self.folder}: cannot write the model for the guest: {error}") from error
        assert self._process.stdin
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        run = f"{request.name}: the simulated run on {self._core.name}"
        code = self._await(self._patience_s, run)
        if code == _FAILED:
            raise self._failure(request.name)
        if code:
            raise MeasurementError(f"{run} {_ended(code)}{self._last_words()}")

    def _await(self, limit_s: float, what: str) -> int:
        """The guest's next answer."""
        assert self._process.stdout
        deadline = time.monotonic() + limit_s
        while not select.select([self._process.stdout], [], [], max(0.0, min(1.0, deadline - time.monotonic())))[0]:
            if time.monotonic() > deadline:
                os.killpg(self._process.pid, signal.SIGKILL)
                # Until then it counts as alive.
                self._process.wait()
                raise MeasurementError(f"{what} did not end within {limit_s:g} s and was stopped")
        answer = os.read(self._process.stdout.fileno(), 1)
        if not answer:
            raise self._death()
        return answer[0]

    def _death(self) -> MeasurementError:
        self._process.wait()
        code = self._process.returncode
        return MeasurementError(
            f"the guest for {self._core.name} {_ended(128 - code if code < 0 else code)}{self._last_words()}"
        )

    def _failure(self, name: str) -> MeasurementError | ModelError:
        failure = json.loads((self.folder / "error.json").read_text())
        message = f"{name}: cannot be run on {self._core.name}: the guest's runtime says {failure['type']}: "
        message += failure["message"]
        lacking = failure["type"] in _LACKING or any(words in message for words in _UNKNOWN_OPERATOR)
        return MeasurementError(message) if lacking else ModelError(message)

    def _last_words(self) -> str:
        lines = (self.folder / "stderr.txt").read_text(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])


def _bootstrap(program: str) -> str:
    """The guest's whole command line program: load the scripts as modules, by paths that are all relative."""
    return (
        # Hides what would tell the guest on which machine it runs.
        "import surroundings\n"
        f"import sys; sys.path[:] = {_PATH!r}\n"
        f"for name in {('marks', 'server', program)!r}:\n"
        "    with open(name + '.py') as file: source = file.read()\n"
        "    module = sys.modules[name] = type(sys)(name)\n"
        "    exec(compile(source, name + '.py', 'exec'), module.__dict__)"
    )


def _ended(code: int) -> str:
    """Say how a process ended, whose code is its exit code or 128 + a signal."""
    if code <= 128:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"ended with code {code}"
