"""Weights as strangers have them: of other types, damaged, or of a training that diverged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.zoo.weight_files import average_weights, load_weights
from netadapt.zoo.weight_header import read_facts


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def save(path: Path, changes: dict[str, Tensor] | None = None, facts: str = "{}") -> Path:
    """The weights of a network, with other tensors in place of some."""
    safetensors.torch.save_file({**network().state_dict(), **(changes or {})}, path, {"netadapt": facts})
    return path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_types_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    module = network()
    load_weights(module, save(tmp_path / "w", {"0.weight": torch.full((2, 1, 1, 1), 0.5, dtype=dtype)}))
    assert module[0].weight.dtype == torch.float32
    assert module[0].weight.flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "tensor", "complaint"),
    [
        ("0.weight", torch.full((2, 1, 1, 1), float("nan")), "NaN or infinite in 1 tensors: 0.weight"),
        ("0.bias", torch.tensor([0.0, float("inf")]), "NaN or infinite in 1 tensors: 0.bias"),
        ("0.bias", torch.tensor([0.0, 1e300], dtype=torch.float64), "NaN or infinite in 1 tensors: 0.bias"),
        ("1.running_var", torch.tensor([1.0, float("nan")]), "NaN or infinite in 1 tensors: 1.running_var"),
        ("0.bias", torch.tensor([0, 1]), "1 tensors of another kind of number than in the network: 0.bias int64"),
        ("0.bias", torch.tensor([0j, 1j]), "1 tensors of another kind of number than in the network: 0.bias complex64"),
        ("1.num_batches_tracked", torch.tensor(1.5), "another kind of number.*num_batches_tracked float32"),
        ("more", torch.zeros(1), "1 unexpected: more"),
        ("0.bias", torch.zeros(3), r"1 of another shape: 0.bias \[3\] \(the network has \[2\]\)"),
    ],
)
def test_weights_that_cannot_be_those_of_the_network(tmp_path: Path, name: str, tensor: Tensor, complaint: str) -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ModelError, match=complaint):
        load_weights(module, save(tmp_path / "w", {name: tensor}))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_infinite_buffers_are_masks(tmp_path: Path) -> None:
    module = network()
    module.register_buffer("mask", torch.zeros(2))
    load_weights(module, save(tmp_path / "w", {"mask": torch.tensor([0.0, float("-inf")])}))
    assert module.mask.tolist() == [0.0, float("-inf")]


def test_files_of_different_networks_have_no_mean(tmp_path: Path) -> None:
    files = [save(tmp_path / "a"), save(tmp_path / "b", {"more": torch.zeros(1)})]
    with pytest.raises(ModelError, match=r"b: not weights of the network of .*a: 1 unexpected: more"):
        average_weights(files, tmp_path / "mean")
    with pytest.raises(ModelError, match=r"a: not weights of the network of .*b: 1 missing: more"):
        average_weights(files[::-1], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / ("x" * 5000)):
        for read in (read_facts, lambda path: load_weights(network(), path)):
            with pytest.raises(ModelError, match="there is no such weight file"):
                read(path)


@pytest.mark.parametrize("facts", ["[]", "1", "null", "{", "[" * 100_000])
def test_metadata_that_netadapt_did_not_write(tmp_path: Path, facts: str) -> None:
    with pytest.raises(ModelError, match=r"is not what netadapt writes|not a safetensors file"):
        read_facts(save(tmp_path / "w", facts=facts))
