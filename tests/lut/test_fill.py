"""Filling, on devices that only pretend to measure."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest
from fake_device import FakeDevice
from table_values import conv

from netadapt.errors import MeasurementError, UnknownNameError
from netadapt.lut.fill import REDOS, REFERENCE, SPAN
from netadapt.lut.fill import fill as fill_table
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.measure.lock import MeasuringLock
from netadapt.network.workload import EMPTY_RUN, Workload

SPAWN = multiprocessing.get_context("spawn")
WORKLOADS = [conv(channels) for channels in range(1, 51)]


def fill(table, device, *arguments, **options):
    return fill_table(table, device, *arguments, clock=device.clock, **options)


@pytest.fixture
def table(tmp_path):
    with Table.open(tmp_path / "table.sqlite") as table:
        yield table


def values(table, device):
    return {entry.workload: entry.measurement.value for entry in table.entries(device.fingerprint, "latency")}


def test_everything_is_measured_once_and_stored(table):
    device = FakeDevice("simulated")
    report = fill(table, device, WORKLOADS + WORKLOADS)
    assert sorted(device.measured, key=str) == sorted(WORKLOADS, key=str)
    assert values(table, device) == {conv(channels): 100 * channels for channels in range(1, 51)}
    assert (report.requested, report.present, report.measured) == (50, 0, 50)
    assert (report.repeated, report.contended, report.reference_ratio) == (0, 0, None)


def test_only_what_is_missing_is_measured(table):
    fill(table, FakeDevice("simulated"), WORKLOADS[:30])
    device = FakeDevice("simulated")
    report = fill(table, device, WORKLOADS)
    assert set(device.measured) == set(WORKLOADS[30:])
    assert (report.requested, report.present, report.measured) == (50, 30, 20)
    assert fill(table, device, []).measured == 0


def test_the_order_is_shuffled_and_always_the_same(table, tmp_path):
    first, second = FakeDevice("simulated"), FakeDevice("simulated")
    fill(table, first, WORKLOADS)
    with Table.open(tmp_path / "other") as other:
        fill(other, second, WORKLOADS)
    assert first.measured == second.measured != WORKLOADS


def test_all_metrics_of_a_measurement_are_stored(table):
    device = FakeDevice("simulated")
    fill(table, device, WORKLOADS[:3], "energy")
    assert fill(table, device, WORKLOADS[:3], "latency").measured == 0


def test_progress_counts_to_the_end(table):
    calls = []
    fill(table, FakeDevice("simulated"), WORKLOADS[:3], on_progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
    assert all(cost.value == 100 * workload.in_channels[0] for _, _, workload, cost in calls)


def test_unknown_metric(table):
    with pytest.raises(UnknownNameError, match="choose one of: energy, latency"):
        fill(table, FakeDevice(), WORKLOADS, "smell")


def test_a_failure_keeps_what_was_stored_and_can_be_resumed(table):
    device = FakeDevice("simulated")

    def fail(number):
        if number == 7:
            raise MeasurementError("the board is gone")
        return "converged"

    device.status = fail
    with pytest.raises(MeasurementError, match="gone"):
        fill(table, device, WORKLOADS)
    assert len(values(table, device)) == 7
    device.status = lambda number: "converged"
    assert fill(table, device, WORKLOADS).present == 7


def test_the_reference_is_looked_at_once_a_span_on_real_clocks(table):
    device = FakeDevice()
    report = fill(table, device, WORKLOADS)
    assert len(device.layers) == 50
    # Three times to begin with, then after each of the spans of 20, 20 and 10.
    assert [number for number, workload in enumerate(device.measured) if workload == REFERENCE] == [
        0, 1, 2, 3 + SPAN, 4 + 2 * SPAN, 5 + 2 * SPAN + 10,
    ]  # fmt: skip
    assert report.reference_ratio == 1
    # The next fill knows it from the table.
    device.measured.clear()
    fill(table, device, [conv(60)])
    assert device.measured == [conv(60), REFERENCE]


def test_a_span_in_which_the_machine_became_slower_is_measured_again(table):
    device = FakeDevice()
    # Slow from the middle of the second span until its reference has been measured.
    device.slowness = lambda number: 1.2 if 30 <= number < 3 + 2 * SPAN + 2 else 1.0
    report = fill(table, device, WORKLOADS)
    assert values(table, device) == {REFERENCE: 6400} | {conv(channels): 100 * channels for channels in range(1, 51)}
    assert (report.measured, report.repeated, report.contended) == (50, SPAN, 0)
    assert report.reference_ratio == 1


def test_a_change_of_less_than_five_percent_is_none(table):
    device = FakeDevice()
    device.slowness = lambda number: 1.04 if number > 3 else 1.0
    assert fill(table, device, WORKLOADS).repeated == 0


def test_a_machine_that_stays_slow_is_measured_twice_and_its_costs_are_scaled(table):
    device = FakeDevice()
    device.slowness = lambda number: 1.2 if number >= 3 else 1.0
    report = fill(table, device, WORKLOADS[:10])
    # The second repetition would be more time lost than was spent.
    assert len(device.layers) == 10 * 2 < 10 * (1 + REDOS)
    assert (report.measured, report.repeated, report.contended) == (10, 10, 10)
    assert report.reference_ratio == pytest.approx(1.2)
    for workload in WORKLOADS[:10]:
        entry = table.get(device.fingerprint, workload)
        assert (entry.status, entry.value) == ("contended", 100 * workload.in_channels[0])
        # What was measured, a fifth more, is within the interval.
        assert entry.relative_half_width == pytest.approx(0.2)


@pytest.mark.parametrize("share", [1.0, 2 / 3, 0.5, 0.2])
def test_filling_among_others_takes_at_most_twice_the_work_that_it_takes_alone(table, share):
    device = FakeDevice()
    device.share = share
    device.slowness = lambda number: 1.0 + number % 7 / 20  # the reference drifts all the time
    device.status = lambda number: "contended" if number % 2 else "converged"
    report = fill(table, device, WORKLOADS)
    assert (report.measured, len(values(table, device))) == (50, 51)
    # Less than half a core: the first measurements alone take longer than that, and nothing is repeated but one.
    assert report.repeated <= {1.0: 50 + SPAN, 2 / 3: 25 + SPAN}.get(share, 1)


def test_what_is_doubtful_is_left_while_the_machine_is_as_busy_as_before(table):
    device = FakeDevice()
    device.status = lambda number: "contended"
    device.share = 0.4
    assert fill(table, device, WORKLOADS[:10]).contended == 10
    device.measured.clear()
    report = fill(table, device, WORKLOADS[:12])
    assert (report.present, report.measured, report.contended) == (10, 2, 12)
    assert set(device.layers) == {WORKLOADS[10], WORKLOADS[11]}
    device.status = lambda number: "converged"
    assert fill(table, device, WORKLOADS[:12]).measured == 12
    assert all(table.get(device.fingerprint, workload).status == "converged" for workload in WORKLOADS[:12])


def test_what_was_contended_is_measured_again_when_it_is_asked_for_again(table):
    device = FakeDevice("simulated")
    device.status = lambda number: "contended" if number < 2 else "converged"
    assert fill(table, device, WORKLOADS[:3]).contended == 1
    report = fill(table, device, WORKLOADS[:3])
    assert (report.present, report.measured, report.contended) == (2, 1, 0)
    assert fill(table, device, WORKLOADS[:3]).measured == 0


def test_a_reference_taken_at_a_bad_moment_is_corrected(table):
    device = FakeDevice()
    device.slowness = lambda number: 1.5 if number < 10 else 1.0
    report = fill(table, device, WORKLOADS[:10])
    assert values(table, device) == {REFERENCE: 6400} | {conv(channels): 100 * channels for channels in range(1, 11)}
    assert (report.repeated, report.contended) == (10, 0)


def test_what_was_measured_by_a_reference_of_a_bad_moment_is_measured_again_the_next_time(table):
    slow = FakeDevice()
    slow.slowness = lambda number: 1.5
    fill(table, slow, WORKLOADS[:10])
    device = FakeDevice()
    fill(table, device, WORKLOADS[10:12])
    assert table.get(device.fingerprint, WORKLOADS[0]).status == "contended"
    assert fill(table, device, WORKLOADS[:12]).measured == 10
    assert values(table, device) == {REFERENCE: 6400} | {conv(channels): 100 * channels for channels in range(1, 13)}


def test_a_contended_measurement_is_repeated_once(table):
    device = FakeDevice("simulated")
    device.status = lambda number: "contended" if number in (2, 5, 6) else "converged"
    report = fill(table, device, WORKLOADS[:5])
    # The third is good when repeated; of the fifth both are contended.
    assert (report.measured, report.repeated, report.contended) == (5, 2, 1)


def test_several_boards_are_measured_at_once(table):
    device = FakeDevice("simulated")
    device.capacity = 2
    both = threading.Barrier(2, timeout=20)
    original = device.workload_costs

    def two_at_a_time(workload):
        both.wait()
        return original(workload)

    device.workload_costs = two_at_a_time
    report = fill(table, device, WORKLOADS[:20])
    assert report.measured == 20
    assert values(table, device) == {conv(channels): 100 * channels for channels in range(1, 21)}


def test_an_error_of_one_of_several_boards(table):
    device = FakeDevice("simulated")
    device.capacity = 2

    def lost(workload):
        raise MeasurementError("board lost")

    device.workload_costs = lost
    with pytest.raises(MeasurementError, match="board lost"):
        fill(table, device, WORKLOADS)


def fill_slowly(folder, counts):
    device = FakeDevice("simulated", MeasuringLock(folder / "lock"))
    original = device.workload_costs

    def slow(workload):
        time.sleep(0.01)
        return original(workload)

    device.workload_costs = slow
    with Table.open(folder / "table.sqlite") as table:
        report = fill(table, device, WORKLOADS)
    counts.put((report.measured, report.present))


def test_processes_that_fill_the_same_table_share_the_work(tmp_path):
    counts = SPAWN.Queue()
    workers = [SPAWN.Process(target=fill_slowly, args=(tmp_path, counts)) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [counts.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(measured for measured, _ in results) == 50
    assert all(measured + present == 50 for measured, present in results)


def test_this_machine(table):
    workloads = [EMPTY_RUN, Workload("conv", (16,), 16, (4, 4), bias=True), Workload("linear", (8,), 4)]
    with open_device("ort-local") as device:
        report = fill_table(table, device, workloads)
        # Whatever else runs on this machine: only what is contended is measured again.
        assert fill_table(table, device, workloads).measured <= report.contended
        assert set(table.get_many(device.fingerprint, workloads)) == set(workloads)
    assert report.measured == 3
