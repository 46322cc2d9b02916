from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from netadapt import zoo
from netadapt.errors import DataError, NonFiniteLossError, UnknownNameError
from netadapt.train import Classification, Dataset, Epoch, Split, TrainingOptions, evaluate, train_network
from netadapt.zoo.weight_header import read_facts

NAME = "mobilenet_v1:0.25@32"
OPTIONS = TrainingOptions(lr=0.05, batch_size=16, schedule="onecycle")


def test_training_from_scratch_ends_with_weights_that_resolve(dataset: Dataset, tmp_path: Path) -> None:
    epochs: list[Epoch] = []
    out = tmp_path / "w.safetensors"
    trained = train_network(
        NAME, dataset, epochs=2, options=OPTIONS, seed=4, out=out, task=Classification(), on_epoch=epochs.append
    )
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[-1].holdout == trained.holdout
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    facts = read_facts(out)
    assert (facts["network"], facts["data"], facts["seed"], facts["epochs"]) == (NAME, "bright-or-dark", 4, 2)
    assert facts["test_accuracy"] == trained.test.score
    network = zoo.resolve(NAME, classes=2, in_channels=1, weights=out)
    assert evaluate(network.module, Classification(), dataset.test, dataset).score == trained.test.score


def test_equal_arguments_give_equal_files_and_threads_stay(dataset: Dataset, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    for name in "ab":
        train_network(NAME, dataset, epochs=1, options=OPTIONS, seed=4, out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.get_num_threads() == threads


def test_a_stop_keeps_the_epochs_so_far(dataset: Dataset, tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "w.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_network(NAME, dataset, epochs=3, options=OPTIONS, seed=0, out=out, on_epoch=stop)
    assert not out.exists()
    assert read_facts(tmp_path / "w.safetensors.partial")["epochs"] == 1


def test_divergence_writes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="lower the learning rate"):
        train_network(
            NAME, dataset, epochs=20, options=replace(OPTIONS, lr=1e30), seed=0, out=tmp_path / "w.safetensors"
        )
    assert not (tmp_path / "w.safetensors").exists()


def test_data_that_does_not_fit_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loaded at 32 x 32, but resnet18@64 takes 64 x 64"):
        train_network("resnet18@64", dataset, epochs=1, options=OPTIONS, seed=0, out=tmp_path / "w")
    few = replace(dataset, train=Split(dataset.train.images[:5], dataset.train.labels[:5]))
    with pytest.raises(DataError, match="5 training images do not fill a batch of 16"):
        train_network(NAME, few, epochs=1, options=OPTIONS, seed=0, out=tmp_path / "w")
    with pytest.raises(UnknownNameError, match="vgg"):
        train_network("vgg", dataset, epochs=1, options=OPTIONS, seed=0, out=tmp_path / "w")
