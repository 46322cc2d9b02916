"""The mean of several files of one network's weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.zoo.weight_files import average_weights, load_weights, save_weights


def network(weight: float, mean: float, batches: int) -> nn.Sequential:
    """One channel, one batch normalisation."""
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with torch.no_grad():
        module[0].weight.fill_(weight)
        module[0].bias.fill_(-weight)
        module[1].running_mean.fill_(mean)
        module[1].num_batches_tracked.fill_(batches)
    return module


def test_weights_and_statistics_are_averaged_and_counters_are_those_of_the_first(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file, (weight, mean, batches) in zip(files, [(1.0, 3.0, 5), (2.0, 4.0, 7), (6.0, -1.0, 9)], strict=True):
        save_weights(network(weight, mean, batches), file, {"widths": {"0": 1}})
    average_weights(files, tmp_path / "mean.safetensors")
    found = network(0.0, 0.0, 0)
    load_weights(found, tmp_path / "mean.safetensors")
    state = {name: tensor.item() for name, tensor in found.state_dict().items()}
    assert state == {
        "0.weight": 3.0,
        "0.bias": -3.0,
        "1.weight": 1.0,
        "1.bias": 0.0,
        "1.running_mean": 2.0,
        "1.running_var": 1.0,
        "1.num_batches_tracked": 5,
    }


def test_the_mean_of_one_is_itself(tmp_path: Path) -> None:
    module = network(1 / 3, 0.1, 1)
    save_weights(module, tmp_path / "one.safetensors", {})
    average_weights([tmp_path / "one.safetensors"], tmp_path / "mean.safetensors")
    found = network(0.0, 0.0, 0)
    load_weights(found, tmp_path / "mean.safetensors")
    assert torch.equal(found[0].weight, module[0].weight)


def test_a_missing_file_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    save_weights(network(1.0, 0.0, 0), tmp_path / "one.safetensors", {})
    with pytest.raises(ModelError, match=r"two\.safetensors: there is no such weight file"):
        average_weights([tmp_path / "one.safetensors", tmp_path / "two.safetensors"], tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
