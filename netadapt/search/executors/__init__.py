"""Executors carry out the orders of an iteration; all give the same outcomes, in their own time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from netadapt.search.executors.workers import Workers
from netadapt.search.outcome import Order, Outcome, dropped

CarryOut = Callable[[Order], Outcome]
"""Does the work of one order."""

OnOutcome = Callable[[Outcome], None]
"""Called for each outcome as soon as it is there, in any order, always in the caller's process and thread."""


class Executor(Protocol):
    """Runs orders, in this process or in others. A context manager, so that no worker outlives the search."""

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        """Carry out all orders; one that cannot be carried out gives a dropped outcome, never an error."""

    def __enter__(self) -> Self:
        """Start workers."""

    def __exit__(self, *error: object) -> None:
        """Stop workers at once."""


def attempt(carry_out: CarryOut, order: Order) -> Outcome:
    """Carry out an order; what goes wrong with it (memory, disk, a user's task) costs this proposal only."""
    try:
        return carry_out(order)
    except Exception as error:
        return dropped(order, f"{type(error).__name__}: {error}")


def make_executor(carry_out: CarryOut, workers: int | str) -> Executor:
    """`serial` for one worker, `processes` for more, `ray` where a cluster is asked for (see `Workers.parse`).

    Raises:
        UnknownNameError: `workers` is none of these.
        RunError: Ray is not installed, or the cluster cannot be reached.

    """
    asked = Workers.parse(workers)
    asked.require()
    if asked.ray:
        from netadapt.search.executors.ray import RayExecutor

        return RayExecutor(carry_out, asked)
    if asked.count == 1:
        from netadapt.search.executors.serial import SerialExecutor

        return SerialExecutor(carry_out)
    from netadapt.search.executors.processes import ProcessesExecutor

    return ProcessesExecutor(carry_out, asked.count or 1)
