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


def test_the_cost_of_a_workload_does_not_change_while_it_is_asked_for(tmp_path):
    device = FakeDevice()
    device.slowness = lambda number: 1 + number / 100
    device.status = lambda number: "contended"
    with Table.open(tmp_path / "table.sqlite") as table:
        costs = MeasuredCosts(table, device)
        first = costs(WORKLOADS[:5])
        measured = len(device.measured)
        assert costs(WORKLOADS[:5]) == first
        assert {**costs(WORKLOADS[:6])}.items() >= first.items()
        assert WORKLOADS[0] not in device.measured[measured:]
        assert WORKLOADS[5] in device.measured[measured:]


def test_a_resumed_run_does_not_measure_again_what_it_was_decided_by(tmp_path):
    busy, quiet = FakeDevice(), FakeDevice()
    busy.status = lambda number: "contended"
    busy.slowness = lambda number: 1.04
    with Table.open(tmp_path / "table.sqlite") as table:
        before = MeasuredCosts(table, busy)(WORKLOADS[:5])
        assert MeasuredCosts(table, quiet, remeasure=False)(WORKLOADS[:5]) == before
        assert quiet.measured == []
        assert MeasuredCosts(table, quiet)(WORKLOADS[:5]) != before
