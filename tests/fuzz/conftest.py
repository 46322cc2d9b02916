from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Fuzz


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, tmp_path: Path) -> Fuzz:
    """Runs many damaged inputs through a reader; see fuzzing.py."""
    return Fuzz(request.config.getoption("profile") == "full", tmp_path)
