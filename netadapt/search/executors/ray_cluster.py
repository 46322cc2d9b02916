"""Connections to Ray: to a cluster of the run's own on this machine, or to a running one."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import ray
from ray._private import ray_constants

from netadapt.errors import RunError
from netadapt.search.executors.scratch import ScratchFolder
from netadapt.search.executors.workers import START_HINT

#: A busy head node now and then fails to start the process that serves a client.
_CONNECTION_TRIES = 3
#: How long a local cluster is given to end by itself, which takes three seconds.
_SHUTDOWN_LIMIT_S = 15.0
_TOKEN_HINT = "if it has a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to it"


@contextmanager
def local_cluster(processors: int) -> Iterator[str]:
    """Start Ray on this machine, reachable from it alone; gives a folder that is removed with it.

    Raises:
        RunError: it cannot be started.

    """
    _refuse_connected()
    try:
        # Sockets are in this folder and their paths must be short, which those in $TMPDIR may not be.
        folder = ScratchFolder(Path("/tmp"))
    except OSError as error:
        raise RunError(f"Ray cannot be started: no folder can be made in /tmp ({error.strerror})") from error
    with _quiet():
        try:
            try:
                _start(processors, folder.path)
            except Exception as error:
                raise RunError(f"Ray cannot be started on this machine: {first_line(error)}") from error
            yield str(folder.path / "scratch")
        finally:
            _end_local_cluster()
            folder.remove()


@contextmanager
def running_cluster(address: str) -> Iterator[str]:
    """Connect to the cluster at `ray://HOST:PORT`; gives "", as its nodes have temporary folders of their own.

    Raises:
        RunError: it does not answer, has other versions, or refuses the token.

    """
    _refuse_connected()
    with _quiet():
        try:
            try:
                _connect(address)
            except Exception as error:
                raise RunError(_refusal(address, error)) from error
            yield ""
        finally:
            ray.shutdown()


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that follow."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _refuse_connected() -> None:
    if ray.is_initialized():
        raise RunError("this program is connected to Ray already; call ray.shutdown() before the adaptation")


def _start(processors: int, folder: Path) -> None:
    # Workers find the modules that this process finds, as forked ones would.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    if not _user_has_token():
        settings["RAY_AUTH_TOKEN"] = _own_token()  # or Ray would write one to the user's home
    with _environment(**settings), _loopback_only():
        ray.init(
            "local",
            num_cpus=processors,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(folder),
            _node_ip_address="127.0.0.1",
        )


def _end_local_cluster() -> None:
    """End all of it, whatever state it is in: `ray.shutdown` waits without limit for a raylet that hangs."""
    with ExitStack() as stack:
        processes = [stack.enter_context(process) for process in _local_processes()]
        overdue = threading.Timer(_SHUTDOWN_LIMIT_S, _kill, [processes])
        overdue.start()
        try:
            ray.shutdown()
        finally:
            overdue.cancel()
            overdue.join()
            # Servers of a raylet that was killed would notice after a minute.
            _kill(processes)


def _local_processes() -> Iterator[BinaryIO]:
    """Handles [pidfd, Linux only] of the processes that Ray started here, and of those that they started."""
    node = ray._private.worker._global_node
    if node is None or not hasattr(os, "pidfd_open"):
        return
    waiting = [started.process.pid for group in node.all_processes.values() for started in group]
    while waiting:
        process = waiting.pop()
        with suppress(OSError):  # it has ended
            yield os.fdopen(os.pidfd_open(process), "rb", buffering=0)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(OSError):  # that thread has
                waiting += map(int, children.read_text().split())


def _kill(processes: Sequence[BinaryIO]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Start Ray where only this machine reaches it.

    On Linux it takes 127.0.0.1 for a wish to be reachable under this machine's true address, and listens on all of
    them; elsewhere it does not, and this constant is what tells the one from the other.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _connect(address: str) -> None:
    with _environment(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is told in the error
        for tries_left in reversed(range(_CONNECTION_TRIES)):
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
            except ConnectionAbortedError:
                if not tries_left:
                    raise
            else:
                return


def _user_has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").exists()


@cache
def _own_token() -> str:
    """One for all clusters that this process starts, as Ray reads it only once."""
    return secrets.token_hex(32)


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """Settings that the processes of a cluster inherit; they, and those that Ray makes, are gone here afterwards."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No words from Ray: what matters is told in our own errors and outcomes."""
    logger, stubborn = logging.getLogger("ray"), logging.getLogger("ray.util.client.logsclient")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    stubborn.disabled = True  # it sets its own level
    try:
        yield
    finally:
        logger.setLevel(before)
        stubborn.disabled = False


def _refusal(address: str, error: Exception) -> str:
    """Why a cluster cannot be used, in a line."""
    text = str(error)
    if "Version mismatch" in text:
        theirs, ours = (" and ".join(re.findall(r"(?:Ray|Python): \S+", part)) for part in text.split("This process"))
        return f"the Ray cluster at {address} has {theirs}, this machine {ours}; install the same on both"
    # A wrong token, too, looks to Ray as if nobody answered.
    return f"no Ray cluster answers at {address} ({first_line(error)}); {_TOKEN_HINT}; otherwise {START_HINT}"
