from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from netadapt.lut.store import Table
from netadapt.measure.device import Device, open_device


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    with open_device("ort-local") as opened:
        yield opened


@pytest.fixture(scope="session")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One table for all tests, so that each layer is measured once."""
    return tmp_path_factory.mktemp("table") / "table.sqlite"


@pytest.fixture
def table(table_path: Path) -> Iterator[Table]:
    with Table.open(table_path) as opened:
        yield opened
