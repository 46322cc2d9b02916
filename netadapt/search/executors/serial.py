"""Carry out orders one after another in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from netadapt.search.executors import CarryOut, OnOutcome, attempt
from netadapt.search.outcome import Order


class SerialExecutor:
    """One order at a time. The caller sees to it that torch uses one thread, as in workers."""

    def __init__(self, carry_out: CarryOut) -> None:
        self._carry_out = carry_out

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        """Carry out all orders in turn."""
        for order in orders:
            on_outcome(attempt(self._carry_out, order))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass
