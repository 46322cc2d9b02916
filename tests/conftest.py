from __future__ import annotations

import pytest

from netadapt.measure.simulator.install import installed


@pytest.fixture(scope="session")
def installation():
    """The simulator as it is set up for the user; tests that need it are skipped where it is not."""
    present = installed()
    if present is None:
        pytest.skip("the simulator is not set up: run netadapt platforms setup sim-cortex-a72")
    return present
