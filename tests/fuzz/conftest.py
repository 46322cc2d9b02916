from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzzing import Fuzz

# What the other tests have written out serves here to be damaged.
sys.path += [str(Path(__file__).parents[1] / name) for name in ("lut", "results")]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, tmp_path: Path) -> Fuzz:
    """Runs many damaged inputs through a reader; see fuzzing.py."""
    return Fuzz(request.config.getoption("profile") == "full", tmp_path)
