"""Statistics of predictions by hand, and assessing on a device whose costs are made up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from table_values import measurement
from torch import nn

from netadapt.lut.accuracy import Accuracy, Sample, assess, ranks
from netadapt.lut.calibration import draw_widths
from netadapt.lut.predictor import Predictor
from netadapt.lut.store import Table
from netadapt.measure.device import Device, Model
from netadapt.measure.measurement import Measurement
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import BlockSource
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.network.workload import Workload


def accuracy(*pairs: tuple[float, int], floor: float = 0.01) -> Accuracy:
    return Accuracy(tuple(Sample({}, predicted, measured) for predicted, measured in pairs), floor)


def test_errors_by_hand() -> None:
    # +10 %, -4 %, 0, -50 %
    result = accuracy((110, 100), (192, 200), (300, 300), (50, 100))
    assert [sample.error for sample in result.samples] == pytest.approx([0.10, -0.04, 0, -0.5])
    assert result.mape == pytest.approx(0.64 / 4)
    assert result.bias == pytest.approx(-0.44 / 4)
    assert result.worst == pytest.approx(0.5)
    assert result.share_within(0.05) == 0.5
    assert result.share_within(0.11) == 0.75
    assert result.share_within(0.01) == 0.25
    assert result.share_within(1.0) == 1.0


def test_spearman_of_the_same_and_of_the_opposite_order() -> None:
    assert accuracy((1, 10), (2, 20), (3, 500)).spearman == pytest.approx(1)
    assert accuracy((3, 10), (2, 20), (1, 500)).spearman == pytest.approx(-1)


def test_spearman_by_hand() -> None:
    # Ranks 0 1 2 3 and 1 0 3 2: 1 - 6 * 4 / (4 * 15).
    assert accuracy((1, 20), (2, 10), (3, 40), (4, 30)).spearman == pytest.approx(0.6)


def test_spearman_with_ties_by_hand() -> None:
    # Ranks 0.5 0.5 2 and 0 1 2: covariance 1.5, variances 1.5 and 2.
    assert accuracy((5, 10), (5, 20), (9, 30)).spearman == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


def test_ranks_with_ties_by_hand() -> None:
    assert ranks(np.array([30.0, 10.0, 30.0, 20.0, 30.0])).tolist() == [3, 0, 3, 1, 3]
    assert ranks(np.array([7.0, 7.0])).tolist() == [0.5, 0.5]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_ranks_keep_their_sum_and_the_order(values: list[int]) -> None:
    result = ranks(np.array(values, dtype=np.float64))
    assert result.sum() == len(values) * (len(values) - 1) / 2
    assert all(
        (a < b) == (i < j) for a, i in zip(values, result, strict=True) for b, j in zip(values, result, strict=True)
    )


@pytest.mark.parametrize(("floor", "conclusive"), [(0.0, True), (0.05, True), (0.0501, False), (0.3, False)])
def test_a_noise_floor_above_5_percent_is_inconclusive(floor: float, conclusive: bool) -> None:
    assert accuracy((1, 1), floor=floor).conclusive is conclusive


EMPTY = 500


class WeightDevice(Device):
    """A weight costs 10 ns, in a workload as in a network; a run costs 500 ns more, times the noise of the moment."""

    def __init__(self, noise: Callable[[int], float] = lambda number: 1.0) -> None:
        super().__init__(load_platform("ort-local").model_copy(update={"tier": "simulated", "width_multiple": 1}))
        self.workloads = 0
        self.networks: list[int] = []
        self._noise = noise

    def costs(self, model: Model) -> dict[str, Measurement]:
        assert isinstance(model, bytes)
        tensors = onnx.load_model_from_string(model).graph.initializer
        value = EMPTY + 10 * sum(int(np.prod(tensor.dims)) for tensor in tensors if len(tensor.dims) > 1)
        value = round(value * self._noise(len(self.networks)))
        self.networks.append(value)
        return {"latency": measurement(value, self.fingerprint)}

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        self.workloads += 1
        height, width = workload.out_size
        return {"latency": measurement(EMPTY + 10 * workload.macs // (height * width), self.fingerprint)}

    def load(self, model: Model) -> AbstractContextManager[BlockSource]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def network() -> AdaptableNetwork:
    layers = (nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1), nn.ReLU())
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return analyse("network", module, torch.randn(1, 3, 4, 4))


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with Table.open(tmp_path / "table.sqlite") as table:
        yield table


def test_a_device_of_which_the_table_knows_everything_is_predicted_exactly(
    table: Table, network: AdaptableNetwork
) -> None:
    device = WeightDevice()
    result = assess(Predictor(network, device, table), networks=11, seed=3)
    assert [sample.predicted for sample in result.samples] == device.networks[:11]
    assert (result.mape, result.bias, result.noise_floor) == (0, 0, 0)
    assert result.spearman == pytest.approx(1)


def test_networks_are_drawn_from_the_seed(table: Table, network: AdaptableNetwork) -> None:
    predictor = Predictor(network, WeightDevice(), table)
    generator = random.Random(5)
    expected = [draw_widths(predictor.allowed, generator) for _ in range(4)]
    assert [sample.widths for sample in assess(predictor, networks=4, seed=5).samples] == expected


def test_every_fifth_network_is_measured_again_for_the_noise_floor(table: Table, network: AdaptableNetwork) -> None:
    # 7 networks, then the repetitions of the first and the sixth, 10 and 4 % slower.
    factors = {7: 1.10, 8: 1.04}
    calls: list[tuple[int, int]] = []
    device = WeightDevice(lambda number: factors.get(number, 1.0))
    predictor = Predictor(network, device, table)
    predictor.estimator.ensure([network.widths])
    result = assess(predictor, networks=7, seed=1)
    assert len(device.networks) == 9
    assert result.noise_floor == pytest.approx(0.07, abs=1e-3)
    assert not result.conclusive
    predictor.on_progress = lambda *call: calls.append(call)
    assess(predictor, networks=7, seed=1)
    assert calls == [(done, 9) for done in range(1, 10)]
