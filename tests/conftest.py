from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from netadapt.measure.simulator.install import installed


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heeded() -> Iterator[None]:
    """As in a terminal. What a shell starts in the background ignores Ctrl-C, and so would what the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def installation():
    """The simulator as it is set up for the user; tests that need it are skipped where it is not."""
    present = installed()
    if present is None:
        pytest.skip("the simulator is not set up: run netadapt platforms setup sim-cortex-a72")
    return present
