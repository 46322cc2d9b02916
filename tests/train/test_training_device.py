"""Training elsewhere than on the CPU. torch's lazy backend, a device of its own, stands in for a GPU."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from netadapt.cli import EXIT_ERROR, app
from netadapt.errors import UnknownNameError
from netadapt.train import Classification, Dataset, Evaluation, TrainingOptions, evaluate, fine_tune
from netadapt.train.device import TrainingDeviceError, in_child, training_device
from netadapt.train.task import Batches

OPTIONS = TrainingOptions(lr=0.05, batch_size=8)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes torch say that it sees so many GPUs."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "count", "taken"),
    [
        ("cpu", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_is_taken_by_name(gpus: Callable[[int], None], name: str, count: int, taken: str) -> None:
    gpus(count)
    assert training_device(name) == taken


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cpu:0", "Cuda", ""])
def test_other_names_list_the_devices(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device .*auto, cpu, cuda, cuda:INDEX"):
        training_device(name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(gpus: Callable[[int], None], name: str, count: int) -> None:
    gpus(count)
    with pytest.raises(TrainingDeviceError, match=rf"^{name}: torch .* sees {count} CUDA devices?.*or auto"):
        training_device(name)


def test_gpus_are_counted_without_touching_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_in: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: asked_in.append(os.getpid()) or 1)
    assert training_device("auto") == "cuda"
    assert asked_in == []  # it was another process's list that got an entry


def test_workers_cannot_be_forked_from_a_process_that_has_used_cuda(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert training_device("cuda", workers=1) == "cuda"
    assert training_device("cpu", workers=2) == "cpu"
    with pytest.raises(TrainingDeviceError, match="does not survive the fork of 2 workers; use one worker"):
        training_device("auto", workers=2)


@pytest.mark.parametrize(
    ("device", "complaint"),
    [("cuda", "cuda: torch .* sees 0 CUDA"), ("gpu", "unknown device 'gpu'; choose one of: auto")],
)
@pytest.mark.parametrize("command", [["train"], ["adapt", "--budget", "macs=0.5x"]])
def test_commands_refuse_it_before_they_begin(
    gpus: Callable[[int], None], tmp_path: Path, command: list[str], device: str, complaint: str
) -> None:
    gpus(0)
    out = tmp_path / "out"
    options = ["mobilenet_v1:0.25@32", "--data", "fashion-mnist-mini", "--out", str(out), "--device", device]
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code == EXIT_ERROR
    assert re.match(f"netadapt: {complaint}", result.stderr)
    assert not out.exists()


def test_a_child_gives_back_what_it_has_computed() -> None:
    batches = [(torch.eye(3), torch.arange(3))]
    found = Evaluation.from_json(in_child(lambda: Classification().evaluate(nn.Identity(), batches).to_json()))
    assert (found.score, found.count) == (1.0, 3)
    assert found.images is not None
    assert found.images.scores.tolist() == [1.0, 1.0, 1.0]


def test_an_error_in_a_child_is_told() -> None:
    def fail() -> None:
        raise UnknownNameError("thing", "x", ("y",))

    with pytest.raises(TrainingDeviceError, match="UnknownNameError: unknown thing 'x'; choose one of: y"):
        in_child(fail)


def test_the_death_of_a_child_is_told() -> None:
    with pytest.raises(TrainingDeviceError, match=r"died \(signal SIGKILL\); out of memory"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """A device that is not the CPU, though it computes there."""
    backend = pytest.importorskip(
        "torch._lazy.ts_backend", reason="this torch has no lazy backend to stand in for a GPU"
    )
    backend.init()
    return "lazy"


def small_network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class Watched:
    """Classification that notes where images, targets and weights are."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._task = Classification()

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        self._note(module, images, targets)
        return self._task.loss(module, images, targets)

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        listed = list(batches)
        for images, targets in listed:
            self._note(module, images, targets)
        return self._task.evaluate(module, listed)

    def _note(self, module: nn.Module, images: Tensor, targets: Tensor) -> None:
        self.seen.update(tensor.device.type for tensor in (*module.parameters(), images, targets))


def test_training_elsewhere_gives_the_same_weights_back_on_the_cpu(dataset: Dataset, elsewhere: str) -> None:
    made = {}
    for device in ("cpu", elsewhere):
        network, task = small_network(), Watched()
        loss = fine_tune(network, task, dataset, steps=4, options=OPTIONS, seed=0, device=device)
        assert task.seen == {device}
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        assert all(parameter.is_contiguous() for parameter in network.parameters())
        made[device] = (loss, network.state_dict())
    assert made[elsewhere][0] == pytest.approx(made["cpu"][0], rel=1e-6)
    for name in ("0.weight", "1.weight", "3.weight"):
        torch.testing.assert_close(made[elsewhere][1][name], made["cpu"][1][name])


def test_evaluating_elsewhere_gives_the_same_result(dataset: Dataset, elsewhere: str) -> None:
    network, task = small_network(), Watched()
    here = evaluate(network, Classification(), dataset.test, dataset, batch_size=5)
    there = evaluate(network, task, dataset.test, dataset, batch_size=5, device=elsewhere)
    assert task.seen == {elsewhere}
    assert (there.score, there.count) == (here.score, here.count)
    assert there.loss == pytest.approx(here.loss, rel=1e-6)
    assert here.images is not None
    assert there.images is not None
    assert there.images.losses.device.type == "cpu"
    torch.testing.assert_close(there.images.losses, here.images.losses)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_a_failure_elsewhere_brings_the_network_back(dataset: Dataset, elsewhere: str) -> None:
    def stop(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    network = small_network()
    with pytest.raises(KeyboardInterrupt):
        fine_tune(network, Classification(), dataset, steps=2, options=OPTIONS, seed=0, on_step=stop, device=elsewhere)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
