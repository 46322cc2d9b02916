"""Learning the correction from whole networks, on a device whose costs are made up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_values import measurement

from netadapt.errors import TableError
from netadapt.lut.calibration import NETWORKS, Calibrator, draw_widths, fit_correction, measure_network
from netadapt.lut.estimator import Correction, Estimator
from netadapt.lut.store import Table
from netadapt.measure.device import Device, Model
from netadapt.measure.measurement import Measurement
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import BlockSource
from netadapt.network.plan import Observation, Plan, Widths, fit_plan
from netadapt.network.workload import EMPTY_RUN, Workload

ALLOWED: dict[str, Sequence[int]] = {"a": range(4, 68, 4), "b": range(4, 132, 4)}
EMPTY = 1000


def observation(a: int, b: int) -> Observation:
    workloads = (Workload("conv", (3,), a, (8, 8)), Workload("conv", (a,), b, (8, 8)))
    return Observation({"a": a, "b": b}, workloads, (), ("upsample",))


PLAN: Plan = fit_plan(observation(64, 128), {"a": observation(32, 128), "b": observation(64, 64)})


def costs(workloads: Sequence[Workload]) -> dict[Workload, int]:
    return {workload: EMPTY if workload == EMPTY_RUN else EMPTY + workload.macs // 64 for workload in workloads}


def layers_only(widths: Widths) -> float:
    """What the layers of `observation` cost without a correction, the empty run included."""
    return EMPTY + 3 * widths["a"] + widths["a"] * widths["b"]


class MadeUpDevice(Device):
    """Measures models that are widths written as JSON; keeps them."""

    def __init__(self, whole: Callable[[Widths], float], status: Iterator[str] | None = None) -> None:
        super().__init__(load_platform("ort-local"))
        self.measured: list[Widths] = []
        self._whole = whole
        self._status = status

    def costs(self, model: Model) -> dict[str, Measurement]:
        assert isinstance(model, bytes)
        widths = json.loads(model)
        self.measured.append(widths)
        status = next(self._status) if self._status else "converged"
        return {"latency": measurement(round(self._whole(widths)), self.fingerprint, status)}

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        raise NotImplementedError

    def load(self, model: Model) -> AbstractContextManager[BlockSource]:
        raise NotImplementedError


def export(widths: Widths) -> bytes:
    return json.dumps(dict(widths)).encode()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with Table.open(tmp_path / "table.sqlite") as table:
        yield table


def calibrator(table: Table, device: Device) -> Calibrator:
    return Calibrator(table, device, "latency", export, ALLOWED)


def estimator() -> Estimator:
    return Estimator(PLAN, ALLOWED, costs)


@given(
    st.floats(0.5, 2.0),
    st.floats(-500.0, 5000.0),
    st.lists(st.floats(1e4, 1e7), min_size=3, max_size=12).filter(lambda values: max(values) > 2 * min(values)),
)
def test_scale_and_offset_of_exact_costs_are_found(scale: float, offset: float, predicted: list[float]) -> None:
    exact = np.array(predicted)
    correction = fit_correction(exact, scale * exact + offset)
    corrected = correction.scale * exact + correction.offset
    np.testing.assert_allclose(corrected, scale * exact + offset, rtol=1e-6)
    assert correction.networks == len(predicted)
    assert correction.residual < 1e-6


def test_scale_and_offset_by_hand() -> None:
    correction = fit_correction(np.array([100.0, 200.0, 400.0]), np.array([160.0, 270.0, 490.0]))
    assert correction.scale == pytest.approx(1.1)
    assert correction.offset == pytest.approx(50)


def test_networks_that_hardly_differ_give_a_scale_only() -> None:
    correction = fit_correction(np.array([100.0, 102.0, 104.0]), np.array([150.0, 100.0, 150.0]))
    assert correction.offset == 0
    # Least squares of the relative error: sum(p/m) / sum((p/m)^2).
    ratios = [100 / 150, 102 / 100, 104 / 150]
    assert correction.scale == pytest.approx(sum(ratios) / sum(ratio**2 for ratio in ratios))
    assert correction.residual == pytest.approx(sum(abs(correction.scale * ratio - 1) for ratio in ratios) / 3)


def test_two_networks_give_a_scale_only() -> None:
    correction = fit_correction(np.array([100.0, 400.0]), np.array([110.0, 440.0]))
    assert (correction.scale, correction.offset) == (pytest.approx(1.1), 0)


def test_correction_of_a_device_is_recovered(table: Table) -> None:
    device = MadeUpDevice(lambda widths: 2 * layers_only(widths) + 500)
    correction = calibrator(table, device).correction(estimator())
    assert correction.scale == pytest.approx(2, rel=1e-3)
    assert correction.offset == pytest.approx(500, abs=5)
    assert correction.residual < 1e-3
    assert correction.networks == len(device.measured) == NETWORKS
    assert device.measured[0] == PLAN.original


def test_correction_is_stored_and_not_measured_again(table: Table) -> None:
    first = calibrator(table, MadeUpDevice(lambda widths: 2 * layers_only(widths))).correction(estimator())
    device = MadeUpDevice(lambda widths: 3 * layers_only(widths))
    with Table.open(table.path) as reopened:
        assert calibrator(reopened, device).correction(estimator(), seed=7) == first
    assert device.measured == []


def test_a_correction_that_explains_nothing_is_used_once_but_not_stored(table: Table) -> None:
    noise = iter([1.0, 1.3, 1.0, 1.3, 1.0, 1.3, 1.0, 1.3])
    busy = calibrator(table, MadeUpDevice(lambda widths: next(noise) * layers_only(widths))).correction(estimator())
    assert busy.residual > 0.05
    assert not busy.explains
    quiet = MadeUpDevice(lambda widths: 2 * layers_only(widths))
    assert calibrator(table, quiet).correction(estimator()).scale == pytest.approx(2, rel=1e-3)
    assert len(quiet.measured) == NETWORKS


def test_another_network_has_a_correction_of_its_own(table: Table) -> None:
    calibrator(table, MadeUpDevice(lambda widths: 2 * layers_only(widths))).correction(estimator())
    other = fit_plan(observation(64, 64), {"a": observation(32, 64), "b": observation(64, 32)})
    device = MadeUpDevice(lambda widths: 3 * layers_only(widths))
    allowed = {**ALLOWED, "b": range(4, 68, 4)}
    own = Calibrator(table, device, "latency", export, allowed).correction(Estimator(other, allowed, costs))
    assert own.scale == pytest.approx(3, rel=1e-3)


def test_progress_counts_to_the_end(table: Table) -> None:
    calls: list[tuple[int, int]] = []
    device = MadeUpDevice(layers_only)
    Calibrator(table, device, "latency", export, ALLOWED, lambda *call: calls.append(call)).correction(estimator())
    assert calls == [(done, NETWORKS) for done in range(1, NETWORKS + 1)]


def test_all_layers_are_asked_for_in_one_batch(table: Table) -> None:
    batches: list[int] = []

    def counted(workloads: Sequence[Workload]) -> dict[Workload, int]:
        batches.append(len(workloads))
        return costs(workloads)

    calibrator(table, MadeUpDevice(layers_only)).correction(Estimator(PLAN, ALLOWED, counted))
    assert len(batches) == 1


def test_unknown_operations_enter_the_offset(table: Table) -> None:
    device = MadeUpDevice(lambda widths: layers_only(widths) + 12345)
    estimated = estimator()
    correction = calibrator(table, device).fixed_part_only(estimated)
    assert correction == Correction(scale=1.0, offset=12345.0, networks=1)
    assert device.measured == [PLAN.original]
    estimated.correction = correction
    assert estimated({"a": 4, "b": 8}) == layers_only({"a": 4, "b": 8}) + 12345


def test_networks_are_not_those_of_an_accuracy_check_with_the_same_seed(table: Table) -> None:
    for seed in range(3):
        device = MadeUpDevice(layers_only)
        calibrator(table, device)._fit(estimator(), seed)
        generator = random.Random(seed)
        checked = [draw_widths(ALLOWED, generator) for _ in range(50)]
        assert not [widths for widths in device.measured[1:] if widths in checked]


def test_networks_depend_on_the_seed_alone(table: Table) -> None:
    devices = [MadeUpDevice(layers_only) for _ in range(3)]
    for device, seed in zip(devices, (1, 1, 2), strict=True):
        calibrator(table, device)._fit(estimator(), seed)
    assert devices[0].measured == devices[1].measured != devices[2].measured


@given(st.integers(0, 1000))
def test_drawn_widths_are_allowed_and_not_below_a_quarter(seed: int) -> None:
    widths = draw_widths({"a": (8, 16, 24, 40), "b": (1, 2, 3, 4), "c": (6,)}, random.Random(seed))
    assert widths["a"] in (16, 24, 40)
    assert widths["b"] in (1, 2, 3, 4)
    assert widths["c"] == 6


@pytest.mark.parametrize("status", ["contended", "unconverged"])
def test_a_disturbed_network_is_measured_once_more_and_the_lesser_value_counts(status: str) -> None:
    for values, expected in (([900, 700], 700), ([700, 900], 700)):
        remaining = iter(values)
        device = MadeUpDevice(lambda widths, remaining=remaining: next(remaining), iter([status, "converged"]))
        assert measure_network(device, b"{}", "latency").value == expected
        assert len(device.measured) == 2


@pytest.mark.parametrize("status", ["converged", "stable-noisy"])
def test_an_undisturbed_network_is_measured_once(status: str) -> None:
    device = MadeUpDevice(lambda widths: 900, iter([status]))
    assert measure_network(device, b"{}", "latency").value == 900
    assert len(device.measured) == 1


@pytest.mark.parametrize("change", [("1.0", '"1"'), ("1.0", "NaN"), ("1.0", "1e999"), ("scale", "x"), ("{", "")])
def test_a_stored_correction_that_is_damaged_is_refused(table: Table, change: tuple[str, str]) -> None:
    calibrator(table, MadeUpDevice(layers_only)).correction(estimator())
    table._connection.execute('UPDATE network SET json = replace(\'{"scale":1.0,"offset":0.0}\', ?, ?)', change)
    with pytest.raises(TableError, match=r"table\.sqlite: the stored correction of this network is damaged"):
        calibrator(table, MadeUpDevice(layers_only)).correction(estimator())
