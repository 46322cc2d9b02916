"""What `workers` says: how many make proposals, and where."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Self

from netadapt.errors import RunError, UnknownNameError

#: A cluster of this run's own, on this machine.
LOCAL = "local"

_FORMS = ("a number from 1 up", "ray", "ray:NUMBER", "ray://HOST:PORT")
_ADDRESS = re.compile(r"ray://(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s/:\[\]]+)):(?P<port>\d{1,5})/?")
_OLDEST_RAY = (2, 60)
_INSTALL = "pip install '.[ray]' in a clone of netadapt"
START_HINT = (
    "on its head node run ray start --head --ray-client-server-port=10001, "
    "and see that this machine may connect to that port"
)
#: How long the machine of a cluster may take to answer at all.
_ANSWER_LIMIT_S = 15.0


@dataclass(frozen=True)
class Workers:
    """`count` workers, None for one on each processor of the cluster.

    `ray` is empty for processes of this machine, `LOCAL`, or the address `ray://HOST:PORT` of a running cluster.
    """

    count: int | None
    ray: str = ""

    @classmethod
    def parse(cls, asked: int | str) -> Self:
        """Read `4`, `ray`, `ray:4` or `ray://HOST:PORT`.

        Raises:
            UnknownNameError: it is none of these.

        """
        text = str(asked).strip()
        if counted := re.fullmatch(r"(ray:)?([1-9]\d{0,4})", text):
            return cls(int(counted[2]), LOCAL if counted[1] else "")
        if text == "ray":
            return cls(os.cpu_count() or 1, LOCAL)
        if (address := _ADDRESS.fullmatch(text)) and 0 < int(address["port"]) < 65536:
            return cls(None, text.rstrip("/"))
        raise UnknownNameError("workers", text, _FORMS)

    def require(self) -> None:
        """Find what is missing before anything is loaded or measured.

        Raises:
            RunError: Ray is not installed or too old, or nobody listens at the address.

        """
        if self.ray:
            _require_ray()
        if self.ray.startswith("ray://"):
            _require_client()
            _require_listener(self.ray)


def _require_ray() -> None:
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise RunError(f"Ray is not installed; {_INSTALL}, or give a number of workers") from None
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST_RAY:
        oldest = ".".join(map(str, _OLDEST_RAY))
        raise RunError(f"Ray {version} is too old; {_INSTALL} brings one from {oldest} up")


def _require_client() -> None:
    if find_spec("grpc") is None:
        raise RunError(f"connecting to a Ray cluster needs grpcio; {_INSTALL}")


def _require_listener(address: str) -> None:
    """Ray itself would wait for half a minute and not tell the cause."""
    parts = _ADDRESS.fullmatch(address)
    assert parts is not None
    try:
        socket.create_connection((parts["v6"] or parts["host"], int(parts["port"])), _ANSWER_LIMIT_S).close()
    except OSError as error:
        cause = error.strerror or str(error)
        raise RunError(f"no Ray cluster can be reached at {address} ({cause}); {START_HINT}") from error
