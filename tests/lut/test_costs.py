from __future__ import annotations

import pytest
from fake_device import FakeDevice
from table_values import conv

from netadapt.lut.costs import MeasuredCosts
from netadapt.lut.store import Table

WORKLOADS = [conv(channels) for channels in range(1, 41)]


@pytest.fixture
def said(tmp_path):
    """Measure the workloads in batches of ten, the given ones of each as contended; what was said of a busy machine."""

    def measure(contended, batches=4):
        device, heard = FakeDevice(), []
        busy = {conv(channels) for channels in range(1, 41) if channels % 10 in contended}
        device.status = lambda number: "contended" if device.measured[number] in busy else "converged"
        with Table.open(tmp_path / "table.sqlite") as table:
            costs = MeasuredCosts(table, device, on_busy=heard.append)
            for start in range(0, 10 * batches, 10):
                costs(WORKLOADS[start : start + 10])
        return heard

    return measure


def test_a_busy_machine_is_reported_once(said):
    heard = said({1, 2, 3, 4})
    assert len(heard) == 1
    assert "8 of 20 layers are contended" in heard[0]


def test_a_few_contended_layers_are_no_busy_machine(said):
    assert said({1, 2}) == []


def test_a_few_layers_say_nothing(said):
    assert said(set(range(10)), batches=1) == []
