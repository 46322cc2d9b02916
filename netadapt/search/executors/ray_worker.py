"""The side of the Ray executor that runs on a node, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

import netadapt
from netadapt.search.executors import CarryOut, attempt
from netadapt.search.executors.ray_cluster import first_line
from netadapt.search.executors.scratch import ScratchFolder
from netadapt.search.outcome import Order

#: An outcome as plain values, and the content of each product of the order, None for one that was not left.
Answer = tuple[dict[str, Any], list[bytes | None]]


def versions() -> dict[str, str]:
    """What must be the same everywhere for a proposal to be the same wherever it is made."""
    return {"netadapt": netadapt.__version__, "torch": str(torch.__version__)}


class RayWorker:
    """Keeps what was shared with it, and carries out one order after another in a folder of its own."""

    def __init__(self, scratch: str) -> None:
        torch.set_num_threads(1)
        self._folder = ScratchFolder(Path(scratch or tempfile.gettempdir()))
        self._carry_out: CarryOut | None = None

    def begin(self, expected: dict[str, str], shared: list[Any]) -> dict[str, Any]:
        """Take what is shared, if the versions are the expected ones; tells node, versions and what went wrong."""
        found, fault = versions(), ""
        if found == expected:
            try:
                # In a list it comes as a reference, so that a failure to read it can be told.
                self._carry_out = ray.get(shared[0])
            except Exception as error:
                fault = first_line(error)
        _load_training()
        return {"node": socket.gethostname(), "versions": found, "fault": fault}

    def is_there(self) -> bool:
        """Answer, which a worker that has died does not."""
        return True

    def work(self, fields: dict[str, Any], source_name: str, source: bytes) -> Answer:
        """Carry out an order on a copy of its source."""
        assert self._carry_out is not None
        order = Order.from_json(fields)
        folder = self._folder.path / "products"
        folder.mkdir()
        try:
            # The name says what is in it: a trainer that keeps the network of a source may go by its path.
            local = replace(order, source=self._copy(source_name, source), target=folder / order.target.name)
            outcome = attempt(self._carry_out, local)
            return outcome.to_json(), [path.read_bytes() if path.exists() else None for path in local.products]
        finally:
            shutil.rmtree(folder)

    def close(self) -> None:
        """Leave nothing behind."""
        self._folder.remove()

    def _copy(self, name: str, content: bytes) -> Path:
        """The file of a source, written once for all orders in a row that start from it."""
        path = self._folder.path / "source" / name
        if not path.exists():
            shutil.rmtree(path.parent, ignore_errors=True)
            path.parent.mkdir()
            path.write_bytes(content)
        return path


def _load_training() -> None:
    """Load what torch puts off until the first optimiser (a second), now that nothing waits for it."""
    torch.optim.SGD([torch.zeros(1)])
