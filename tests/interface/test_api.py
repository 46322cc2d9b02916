from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import netadapt
from netadapt import zoo
from netadapt.errors import BudgetError, DataError, RunError, TableError, UnknownNameError
from netadapt.search.budget import Pace
from netadapt.search.strategy import FAST, PAPER, Strategy
from netadapt.search.trainer import Training
from netadapt.train import Split, TrainingOptions, load_dataset

BRIEF = Training(1, TrainingOptions(lr=0.01, batch_size=16))


class Residual(nn.Module):
    """A network of the user's own, with a residual connection and a strange operation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, stride=4, padding=1)
        self.body = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.stem(images))
        features = features + torch.sin(self.body(features))
        return self.head(features.mean((2, 3)))


class Tried(netadapt.Observer):
    """Takes note of the channel groups that are tried."""

    def __init__(self) -> None:
        self.groups: list[str] = []

    def analysed(self, group: str, done: int, total: int) -> None:
        self.groups.append(group)


def test_what_cannot_be_is_refused_before_groups_are_tried(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text\n")
    wrong = [
        (BudgetError, {"budget": "params=1G"}, "met already"),
        (UnknownNameError, {"budget": "energy=0.5x"}, "unknown metric"),
        (RunError, {"out": tmp_path / "mine"}, "holds no run"),
        (TableError, {"table": tmp_path / "mine" / "thesis.txt"}, "not a table"),
    ]
    observer = Tried()
    for error, change, said in wrong:
        arguments = {"budget": "macs=0.6x", "out": tmp_path / "run", "table": tmp_path / "table.sqlite", **change}
        with pytest.raises(error, match=said):
            netadapt.adapt(Residual(), torch.zeros(1, 1, 32, 32), "fashion-mnist-mini", observer=observer, **arguments)
    assert observer.groups == []


def test_a_users_module_is_adapted_and_left_as_it_was(tmp_path: Path) -> None:
    model = Residual()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = torch.randn(1, 1, 32, 32)
    adapted = netadapt.adapt(
        model,
        example,
        "fashion-mnist-mini",
        budget="macs=0.6x",
        pace=Pace(2),
        short_term=BRIEF,
        long_term=BRIEF,
        out=tmp_path / "run",
        table=tmp_path / "table.sqlite",
    )
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert adapted.summary["unknown_operations"] == ["sin"]
    assert adapted.summary["adapted"]["macs"] <= 0.6 * adapted.summary["original"]["macs"]
    session = onnxruntime.InferenceSession(adapted.onnx)
    (output,) = session.run(None, {"input": example.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, adapted.module(example).numpy(), atol=1e-4)


def test_data_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 1 channel, the example input 3"):
        netadapt.adapt(
            Residual(), torch.randn(1, 3, 32, 32), "fashion-mnist-mini", budget="macs=0.6x", out=tmp_path / "run"
        )


def test_importing_the_package_is_light() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        netadapt.nonsense  # noqa: B018
    assert netadapt.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("name", "budget", "correction", "strategy"),
    [
        ("mobilenet_v2:0.5@32", "macs=0.92x", False, PAPER),
        ("mobilenet_v2:0.5@32", "macs=0.92x", False, FAST),
        ("resnet18:0.25@32", "macs=0.92x", False, PAPER),
        ("squeezenet:0.5@32", "latency=0.96x", True, PAPER),
    ],
    ids=lambda value: {PAPER: "paper", FAST: "fast"}.get(value) if isinstance(value, Strategy) else None,
)
@pytest.mark.timeout(240)
def test_residual_and_concatenating_networks_adapt(
    name: str, budget: str, correction: bool, strategy: Strategy, tmp_path: Path
) -> None:
    data = load_dataset("fashion-mnist-mini", 32)
    brief = replace(data, holdout=Split(data.holdout.images[:100], data.holdout.labels[:100]))
    resolved = zoo.resolve(name, classes=10, in_channels=1)
    adapted = netadapt.adapt(
        resolved.module,
        resolved.example_input,
        brief,
        budget=budget,
        pace=Pace(2),
        short_term=BRIEF,
        long_term=BRIEF,
        workers=2,
        strategy=strategy,
        correction=correction,
        out=tmp_path / "run",
        table=tmp_path / "table.sqlite",
        name=name,
    )
    assert adapted.summary["budget_met"]
    # Groups that interact after a single step of training make the fast search's steps smaller.
    assert adapted.summary["iterations"] >= 1
    assert strategy == FAST or adapted.summary["iterations"] <= 2
    assert adapted.module(resolved.example_input).shape == (1, 10)
