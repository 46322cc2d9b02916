"""Carry out orders in worker processes on this machine.

Workers are forked, so the network and the data are shared with them and never copied or serialised. Orders and
outcomes cross as JSON, weights as safetensors files. Each worker has a pipe of its own: one that dies, at whatever
instant, cannot leave a lock behind that the others wait for.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Self

import torch

from netadapt.search.executors import CarryOut, OnOutcome, attempt
from netadapt.search.outcome import Order, Outcome, dropped

#: An order whose worker died is given to another one once: the machine may have been short of memory for a moment.
_TRIES = 2
#: How often an idle worker looks whether the search is still there.
_LIFE_SIGN_S = 1.0


@dataclass
class _Worker:
    process: ForkProcess
    connection: Connection
    order: Order | None = None


class ProcessesExecutor:
    """Keeps `workers` processes busy and replaces those that die."""

    def __init__(self, carry_out: CarryOut, workers: int) -> None:
        self._carry_out = carry_out
        self._count = workers
        self._context = multiprocessing.get_context("fork")
        self._workers: list[_Worker] = []

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        """Carry out all orders, as many at a time as there are workers."""
        waiting = deque(orders)
        tries = dict.fromkeys((order.target for order in orders), 0)
        while waiting or any(worker.order for worker in self._workers):
            self._hand_out(waiting)
            for worker in self._heard_from():
                order = worker.order
                if order is None:
                    self._replace(worker)  # it died while it had nothing to do
                    continue
                answer = _receive(worker)
                worker.order = None
                if answer is not None:
                    on_outcome(Outcome.from_json(answer))
                    continue
                cause = self._replace(worker)
                tries[order.target] += 1
                if tries[order.target] < _TRIES:
                    waiting.appendleft(order)
                else:
                    on_outcome(dropped(order, f"its worker died {_TRIES} times ({cause}); out of memory?"))

    def __enter__(self) -> Self:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers = []

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._carry_out, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self, waiting: deque[Order]) -> None:
        for index, worker in enumerate(self._workers):
            if not waiting:
                return
            if worker.order is None:
                if not worker.process.is_alive():
                    self._replace(worker)
                    worker = self._workers[index]
                worker.order = waiting.popleft()
                _send(worker.connection, worker.order.to_json())

    def _heard_from(self) -> list[_Worker]:
        """Workers that have answered or died."""
        busy = {worker.connection: worker for worker in self._workers}
        return [busy[connection] for connection in wait(list(busy)) if isinstance(connection, Connection)]

    def _replace(self, worker: _Worker) -> str:
        """Start another worker in its place; tells how the old one ended."""
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        code = worker.process.exitcode or 0
        self._workers[self._workers.index(worker)] = self._start()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _work(connection: Connection, carry_out: CarryOut, parent: int) -> None:
    """Main function of a worker."""
    # Ctrl-C reaches the whole process group; the search alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _end_with(parent, carry_out)
    while True:
        while not connection.poll(_LIFE_SIGN_S):
            _exit_without(parent)
        try:
            order = Order.from_json(json.loads(connection.recv_bytes()))
        except EOFError:
            os._exit(0)
        _send(connection, attempt(carry_out, order).to_json())


def _end_with(parent: int, carry_out: CarryOut) -> None:
    """Make a worker whose search was killed end at its next step, instead of training for nobody."""
    if hasattr(carry_out, "on_step"):
        carry_out.on_step = lambda step, loss: _exit_without(parent)


def _exit_without(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(0)


def _send(connection: Connection, message: dict[str, Any]) -> None:
    # If the other side is gone, whoever waits for the answer notices.
    with suppress(BrokenPipeError):
        connection.send_bytes(json.dumps(message).encode())


def _receive(worker: _Worker) -> dict[str, Any] | None:
    """The answer of a worker, None if it died."""
    try:
        answer: dict[str, Any] = json.loads(worker.connection.recv_bytes())
    except (EOFError, ConnectionResetError):
        return None
    return answer
