"""Keeps a worker process, and ends it when a board or TVM makes it hang."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

from netadapt import errors
from netadapt.errors import DeviceBusy, DeviceLost, MeasurementError, NetAdaptError, SessionTimeout
from netadapt.measure.lock import OnWait
from netadapt.measure.platform import Rpc
from netadapt.measure.rpc.handshake import silence
from netadapt.measure.rpc.processes import command, environment
from netadapt.measure.waiting import readable

#: Compiling a whole network takes some ten seconds.
_COMPILE_LIMIT_S = 900.0
_START_LIMIT_S = 120.0
#: What a worker gets more than the limits that it is told to keep itself.
_GRACE_S = 2.0


class Worker:
    """One process of `worker.py`, in a process group of its own. Not for several threads at once.

    Args:
        limits: how long boards are waited for.
        on_wait: called when all boards are in use and this has to wait.

    Raises:
        MeasurementError: it cannot be started.

    """

    def __init__(self, limits: Rpc, on_wait: OnWait | None = None) -> None:
        self._on_wait = on_wait
        self._limits_s = _limits_s(limits)
        self._limits = limits
        self._unread = b""
        self._asked = False
        try:
            # On a full disk there is none.
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        except OSError as error:
            raise MeasurementError(f"cannot start a process for measuring: no temporary file: {error}") from error
        try:
            self._process = subprocess.Popen(
                command("netadapt.measure.rpc.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise MeasurementError(f"cannot start a process for measuring: {error}") from error

    def ask(self, do: str, model: bytes = b"", **fields: Any) -> Any:
        """Let the worker do something, within the limits of each of its stages.

        Raises:
            NetAdaptError: what the worker says.
            DeviceBusy, DeviceLost, SessionTimeout: it had to be ended, and so must be replaced.
            MeasurementError: it died.

        """
        assert self.usable
        self._asked = True
        answer = self._answer(json.dumps({"do": do, "bytes": len(model), **fields}).encode() + b"\n" + model)
        self._asked = False
        if "error" in answer:
            raise self._error(answer["error"])
        return answer["answer"]

    @property
    def usable(self) -> bool:
        """Whether it can be asked: it is alive, and nobody was interrupted while it was working."""
        return not self._asked and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the worker, which leads a process group."""
        return self._process.pid

    def close(self) -> None:
        """End the process and whatever it has started."""
        self._end()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream
            # What was not sent yet cannot be sent any more.
            with contextlib.suppress(OSError):
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, request: bytes) -> dict[str, Any]:
        assert self._process.stdin
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death("starting") from None
        stage, waited = "starting", False
        while "stage" in (message := self._message(stage)):
            stage = message["stage"]
            if stage == "waiting" and not waited and self._on_wait:
                self._on_wait("a board: all are measuring for others")
            waited = waited or stage == "waiting"
        return message

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _message(self, stage: str) -> dict[str, Any]:
        """The next line of the worker."""
        assert self._process.stdout
        deadline = time.monotonic() + self._limits_s[stage]
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._end()
                raise self._overdue(stage)
            if readable(self._process.stdout, left_s):
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise self._death(stage)
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _error(self, error: Mapping[str, str]) -> NetAdaptError:
        kind = getattr(errors, error["type"], MeasurementError)
        # A type with other arguments than a message is none that a worker meets.
        failure: NetAdaptError = kind(error["message"])
        return failure

    def _overdue(self, stage: str) -> MeasurementError:
        limits, limit_s = self._limits, self._limits_s[stage]
        if stage == "waiting":
            return DeviceBusy(f"no board was free within {limits.busy_limit_s:g} s")
        if stage == "connecting":
            return DeviceLost(silence(limits.connect_limit_s))
        if stage == "asking":
            return DeviceLost(f"the board or its tracker does not answer within {limit_s:g} s")
        if stage == "running":
            return SessionTimeout(
                f"the board did not end the session within {limits.session_limit_s:g} s (rpc.session_limit_s of the"
                " platform), and does not answer"
            )
        return MeasurementError(f"{stage} did not end within {limit_s:g} s and was stopped{self._last_words()}")

    def _death(self, stage: str) -> MeasurementError:
        self._end()
        code = self._process.returncode
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return MeasurementError(f"the process for measuring ended {how} while it was {stage}{self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])


def _limits_s(limits: Rpc) -> dict[str, float]:
    """How long each stage may last, in seconds; `session.Stage` names them."""
    return {
        "starting": _START_LIMIT_S,
        "compiling": _COMPILE_LIMIT_S,
        "waiting": limits.busy_limit_s + limits.connect_limit_s + _GRACE_S,
        # The handshake, and the first question.
        "connecting": 2 * limits.connect_limit_s + _GRACE_S,
        "running": limits.session_limit_s + _GRACE_S,
        # A tracker gets as long as a board for each of a few questions.
        "asking": 3 * limits.connect_limit_s + _GRACE_S,
    }
