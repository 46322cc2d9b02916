"""A device that takes longer than it should: spent time, not multiplied numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.reference_model import reference_model
from netadapt.measure.device import Device
from netadapt.measure.local import LocalDevice


@contextmanager
def slowed(device: Device, share: float) -> Iterator[None]:
    """Let every model on this machine take `share` more of its time, but for the reference model."""
    assert isinstance(device, LocalDevice)
    load = device.model_program

    def slow_program(model: Any) -> Any:
        program = load(model)
        return program if model == reference_model() else _prolonged(program, share)

    device.model_program = slow_program  # type: ignore[method-assign]
    try:
        yield
    finally:
        device.model_program = load  # type: ignore[method-assign]


def _prolonged(program: Callable[[], object], share: float) -> Callable[[], None]:
    def run() -> None:
        begin = time.perf_counter_ns()
        program()
        end = time.perf_counter_ns()
        end += round((end - begin) * share)
        while time.perf_counter_ns() < end:
            pass

    return run
