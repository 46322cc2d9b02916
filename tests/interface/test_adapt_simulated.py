"""Adapting for a simulated core: the clock never varies, so neither does the result."""

from pathlib import Path

import pytest
import torch
from torch import nn

import netadapt
from netadapt.search.budget import Pace
from netadapt.search.trainer import Training
from netadapt.train import TrainingOptions

BRIEF = Training(1, TrainingOptions(lr=0.01, batch_size=16))


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.ReLU(),
        nn.Conv2d(24, 48, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 10),
    )


def adapt(out: Path, budget: list[str], workers: int) -> "netadapt.api.AdaptedNetwork":
    return netadapt.adapt(
        small_network(),
        torch.zeros(1, 1, 32, 32),
        "fashion-mnist-mini",
        budget=budget,
        platform="sim-cortex-a72",
        pace=Pace(2),
        short_term=BRIEF,
        long_term=BRIEF,
        workers=workers,
        out=out,
        table=out.with_suffix(".sqlite"),
    )


def written(out: Path) -> dict[str, bytes]:
    """All weights and models of a run, by their names."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.suffix in (".safetensors", ".onnx")
    }


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("budget", [["latency=0.7x"], ["latency=0.7x", "energy=0.75x"]], ids=["latency", "both"])
@pytest.mark.timeout(240)
def test_two_runs_with_tables_of_their_own_give_the_same_bytes(tmp_path: Path, budget: list[str]) -> None:
    first = adapt(tmp_path / "first", budget, workers=1)
    adapt(tmp_path / "second", budget, workers=2)
    assert first.summary["verdict"] == "met"
    assert first.summary["tier"] == "simulated"
    for limit in budget:
        metric, share = limit.rstrip("x").split("=")
        key = {"latency": "latency_ns", "energy": "energy_pj"}[metric]
        # Not only as predicted: what is simulated is exact.
        assert first.summary["adapted"][key] <= float(share) * first.summary["original"][key]
    assert len(written(tmp_path / "first")) >= 6
    assert written(tmp_path / "first") == written(tmp_path / "second")
