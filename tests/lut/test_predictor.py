"""Network, device and table together: on ONNX Runtime for real, and on a made-up device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from table_values import measurement
from torch import nn

from netadapt.lut.calibration import NETWORKS
from netadapt.lut.estimator import Correction
from netadapt.lut.fill import REFERENCE
from netadapt.lut.predictor import Predictor
from netadapt.lut.store import Table
from netadapt.measure.device import Device, Model, open_device
from netadapt.measure.measurement import Measurement
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import BlockSource
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.network.workload import EMPTY_RUN, Workload


def make(*extra: nn.Module) -> AdaptableNetwork:
    """Two convolutions of 32 channels on 8 x 8 pixels, a linear layer, and what else is given."""
    layers = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), *extra)
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))
    return analyse("small", module, torch.randn(1, 3, 8, 8))


@pytest.fixture(scope="module")
def network() -> AdaptableNetwork:
    return make()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with Table.open(tmp_path / "table.sqlite") as table:
        yield table


def test_on_onnx_runtime_from_an_empty_table_to_a_prediction(
    table: Table, network: AdaptableNetwork, tmp_path: Path
) -> None:
    quick = load_platform("ort-local")
    limits = quick.protocol.model_copy(update={"workload_time_limit_s": 0.02, "network_time_limit_s": 0.02})
    with open_device(quick.model_copy(update={"protocol": limits})) as device:
        predictor = Predictor(network, device, table)
        assert predictor.allowed == {"0": (16, 32), "2": (16, 32)}
        correction = predictor.calibrate()
        assert correction.networks == NETWORKS
        assert math.isfinite(correction.residual)
        for widths in ({"0": 16, "2": 16}, {"0": 32, "2": 32}):
            assert predictor.estimator(widths) > 0
        layers = predictor.estimator.layers(network.widths)
        assert [workload.op for workload, _ in layers] == ["conv", "conv", "global_avg_pool", "linear"]
        assert all(cost >= 0 for _, cost in layers)
        entries = {entry.workload: entry.measurement for entry in table.entries(device.fingerprint)}
        assert {EMPTY_RUN, REFERENCE, *network.plan.at(network.widths)} <= set(entries)
        # 2 first convolutions, 4 second ones, 2 pools, 2 linear layers, the empty run and the reference.
        assert len(entries) <= 12
        assert all(entry.tier == "local" and entry.value > 0 for entry in entries.values())
        assert predictor.costs.measured > 0

        # On a busy machine some are contended, and would be measured again.
        for workload, entry in entries.items():
            table.put(workload, replace(entry, status="converged"))
        with Table.open(tmp_path / "table.sqlite") as reopened:
            again = Predictor(network, device, reopened)
            if correction.explains:  # else it is not kept
                assert again.calibrate() == correction
            again.estimator.correction = correction
            assert again.estimator(network.widths) == predictor.estimator(network.widths)
            assert again.costs.measured == 0


class SlowNetworkDevice(Device):
    """Every workload costs 100 ns and every network 9000 ns."""

    def __init__(self) -> None:
        super().__init__(load_platform("ort-local").model_copy(update={"tier": "simulated"}))
        self.networks = 0

    def costs(self, model: Model) -> dict[str, Measurement]:
        self.networks += 1
        return {"latency": measurement(9000, self.fingerprint)}

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        return {"latency": measurement(100, self.fingerprint)}

    def load(self, model: Model) -> AbstractContextManager[BlockSource]:
        raise NotImplementedError


def test_an_uncalibrated_predictor_corrects_nothing(table: Table, network: AdaptableNetwork) -> None:
    device = SlowNetworkDevice()
    predictor = Predictor(network, device, table)
    assert predictor.estimator(network.widths) == 100
    assert predictor.calibrate(corrected=False) == Correction()
    assert device.networks == 0


def test_unknown_operations_are_in_the_fixed_part_even_without_correction(table: Table) -> None:
    network = make(nn.LeakyReLU())
    device = SlowNetworkDevice()
    predictor = Predictor(network, device, table)
    assert network.plan.unknown == ("leaky_relu",)
    assert predictor.calibrate(corrected=False) == Correction(offset=8900, networks=1)
    assert predictor.estimator(network.widths) == 9000
    assert device.networks == 1


def test_the_correction_can_be_switched_off_again(table: Table) -> None:
    for network, plain in ((make(), 100), (make(nn.LeakyReLU()), 9000)):
        predictor = Predictor(network, SlowNetworkDevice(), table)
        assert predictor.calibrate().scale == pytest.approx(90)
        predictor.calibrate(corrected=False)
        assert predictor.estimator(network.widths) == plain


def test_exported_models_have_the_widths(network: AdaptableNetwork, table: Table) -> None:
    predictor = Predictor(network, SlowNetworkDevice(), table)
    tensors = onnx.load_model_from_string(predictor.export({"0": 16, "2": 32})).graph.initializer
    shapes = sorted(tuple(tensor.dims) for tensor in tensors if len(tensor.dims) > 1)
    assert shapes == [(4, 32), (16, 3, 3, 3), (32, 16, 1, 1)]


def test_progress_of_measuring_reaches_whoever_listens(network: AdaptableNetwork, table: Table) -> None:
    calls: list[tuple[int, int]] = []
    predictor = Predictor(network, SlowNetworkDevice(), table)
    predictor.on_progress = lambda *call: calls.append(call)
    predictor.estimator(network.widths)
    # Two convolutions, pool, linear layer and the empty run.
    assert calls == [(done, 5) for done in range(1, 6)]
