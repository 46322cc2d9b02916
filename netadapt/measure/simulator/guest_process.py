"""Processes of QEMU: a Python in the installed root, with the surroundings of a core and nothing of its host's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from netadapt.errors import MeasurementError
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.install import Installation
from netadapt.measure.simulator.install.guest_root import guest_root
from netadapt.measure.waiting import readable

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


class GuestProcess:
    """A process of QEMU that leads a process group, in a folder of its own. Not for several threads at once.

    Args:
        installation: where QEMU, the plugin and the guest's files are.
        core: what the guest is told that it runs on.
        modules: scripts of in_guest/, loaded in this order; the last one is the program.
        files: what else the folder has, by name.
        timed: whether the plugin counts cycles of the core.
        remember: False computes each block of instructions anew, which takes longer and must give the same.
        serves: whether it is the program's first fork that is timed; the program itself then finds the host's clock.

    Raises:
        MeasurementError: it cannot be started.

    """

    def __init__(
        self,
        installation: Installation,
        core: Core,
        modules: Sequence[str],
        files: Mapping[str, bytes],
        timed: bool = True,
        remember: bool = True,
        serves: bool = False,
    ) -> None:
        self.core = core
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="netadapt-guest-"))
        except OSError as error:
            raise MeasurementError(f"cannot make a folder for a guest: {error}") from error
        try:
            self._prepare(installation, files)
            plugin = _plugin(installation, remember, serves) if timed else []
            self._process = self._start(installation, modules, plugin)
        except OSError as error:
            self.close()
            raise MeasurementError(f"cannot start a guest for {core.name}: {error}") from error
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.pid

    def send_byte(self) -> None:
        """Write a byte to its standard input.

        Raises:
            MeasurementError: it has ended.

        """
        assert self._process.stdin
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.death() from None

    def read_byte(self, limit_s: float, what: str) -> bytes:
        """The next byte of its standard output.

        Args:
            limit_s: how long to wait for it; then the process is killed.
            what: begins the error's message.

        Raises:
            MeasurementError: it has ended, or the limit has passed.

        """
        assert self._process.stdout
        deadline = time.monotonic() + limit_s
        while not readable(self._process.stdout, min(1.0, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                os.killpg(self._process.pid, signal.SIGKILL)
                # Until then it counts as alive.
                self._process.wait()
                raise MeasurementError(f"{what} did not end within {limit_s:g} s and was stopped")
        answer = os.read(self._process.stdout.fileno(), 1)
        if not answer:
            raise self.death()
        return answer

    def death(self) -> MeasurementError:
        """The error that says how it ended."""
        self._process.wait()
        code = self._process.returncode
        return MeasurementError(
            f"the guest for {self.core.name} {ended(128 - code if code < 0 else code)}{self.last_words()}"
        )

    def last_words(self) -> str:
        """The last lines of its standard error, each on a line of its own."""
        lines = (self.folder / "stderr.txt").read_text(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])

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

    def _prepare(self, installation: Installation, files: Mapping[str, bytes]) -> None:
        core = self.core
        root = guest_root(installation, core.shown_cpu, core.mhz, [cache.size_bytes for cache in core.caches])
        (self.folder / "root").symlink_to(root, target_is_directory=True)
        (self.folder / "core.model").write_text(core.plugin_text())
        for script in _SCRIPTS.glob("*.py"):
            shutil.copyfile(script, self.folder / script.name)
        for name, content in files.items():
            (self.folder / name).write_bytes(content)

    def _start(
        self, installation: Installation, modules: Sequence[str], plugin: Sequence[str]
    ) -> subprocess.Popen[bytes]:
        environment = [part for name, value in _ENVIRONMENT.items() for part in ("-E", f"{name}={value}")]
        # What QEMU itself needs is not for the guest.
        environment += [part for name in installation.qemu_environment for part in ("-U", name)]
        machine = ["-R", _ADDRESS_SPACE, "-s", _STACK_BYTES, "-seed", "1", "-r", _KERNEL, "-cpu", self.core.qemu_cpu]
        files = ["-L", "root", "-0", f"/{_PYTHON}"]
        # Not a script given by name: Python would ask for the name of the working folder. Not -I: it would ignore the
        # seed of the hashes.
        python = [f"root/{_PYTHON}", "-s", "-P", "-S", "-c", _bootstrap(modules)]
        with (self.folder / "stderr.txt").open("wb") as errors:
            return subprocess.Popen(
                ["setarch", "-R", installation.qemu, *machine, *files, *environment, *plugin, *python],
                cwd=self.folder,
                env=installation.qemu_environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )


class RunsInGuest:
    """What a guest of any kind has in common: its process, which ends with it."""

    _process: GuestProcess

    @property
    def folder(self) -> Path:
        """Where it works, and finds its files."""
        return self._process.folder

    @property
    def alive(self) -> bool:
        """Whether it runs, and so can be asked again."""
        return self._process.alive

    @property
    def pid(self) -> int:
        """Process id of QEMU, which leads a process group of its own."""
        return self._process.pid

    def close(self) -> None:
        """End the process, and whatever it has forked, and remove its folder."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ended(code: int) -> str:
    """Say how a process ended, whose code is its exit code or 128 + a signal."""
    if code <= 128:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"ended with code {code}"


def _plugin(installation: Installation, remember: bool, serves: bool) -> list[str]:
    # QEMU takes a comma for the end of the path unless there are two.
    library, capstone = (str(path).replace(",", ",,") for path in (installation.plugin, installation.capstone_library))
    options = f"{library},model=core.model,capstone={capstone},report=report.json"
    return ["-plugin", options + (",serves=on" if serves else "") + ("" if remember else ",replay=off")]


def _bootstrap(modules: Sequence[str]) -> str:
    """The guest's whole command line program: load the scripts as modules, by paths that are all relative."""
    return (
        # Hides what would tell the guest on which machine it runs.
        "import surroundings\n"
        f"import sys; sys.path[:] = {_PATH!r}\n"
        f"for name in {tuple(modules)!r}:\n"
        "    with open(name + '.py') as file: source = file.read()\n"
        "    module = sys.modules[name] = type(sys)(name)\n"
        "    exec(compile(source, name + '.py', 'exec'), module.__dict__)"
    )
