"""ResNet-50 against what is published about it, and the layout in which weights trained elsewhere come."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from netadapt import zoo
from netadapt.network.groups import ChannelSurgeon
from netadapt.network.network import observe
from netadapt.zoo.resnet import Bottleneck

BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names() -> set[str]:
    """Of the 320 tensors in a file of torchvision's ResNet-50."""
    convolutions, norms = ["conv1"], ["bn1"]
    for stage, count in BLOCKS.items():
        for index in range(count):
            convolutions += [f"{stage}.{index}.conv{number}" for number in (1, 2, 3)]
            norms += [f"{stage}.{index}.bn{number}" for number in (1, 2, 3)]
        convolutions.append(f"{stage}.0.downsample.0")
        norms.append(f"{stage}.0.downsample.1")
    names = {f"{name}.weight" for name in convolutions} | {f"{name}.{part}" for name in norms for part in NORM}
    return names | {"fc.weight", "fc.bias"}


def test_weights_in_torchvisions_layout_load(tmp_path: Path) -> None:
    names = torchvision_names()
    assert len(names) == 320
    made = zoo.build("resnet50", classes=1000, in_channels=3, seed=1).state_dict()
    file = tmp_path / "resnet50.safetensors"
    safetensors.torch.save_file({name: made[name] for name in names}, file)
    loaded = zoo.resolve("resnet50", classes=None, in_channels=None, weights=file)
    assert loaded.pretrained
    assert torch.equal(loaded.module.state_dict()["layer4.2.conv3.weight"], made["layer4.2.conv3.weight"])


def test_multiply_accumulates_are_as_published() -> None:
    network = zoo.resolve("resnet50@224", classes=1000, in_channels=3)
    seen = observe(network.module, network.example_input, {})
    assert sum(workload.macs for workload in seen.workloads) == 4_089_184_256  # "4.09 G"
    assert seen.unknown == ()


def test_residual_partners_are_narrowed_together() -> None:
    module = zoo.build("resnet50:0.25@32", classes=10, in_channels=1)
    groups = {group.name: group for group in ChannelSurgeon(module, torch.rand(1, 1, 32, 32)).groups()}
    inner = {f"{stage}.{index}.conv{n}" for stage, count in BLOCKS.items() for index in range(count) for n in (1, 2)}
    assert groups.keys() == {"conv1", "fc", *inner, *(f"{stage}.0.conv3" for stage in BLOCKS)}
    last = groups["layer4.0.conv3"]
    assert last.width == 512  # 4 x 512 at a quarter of the width
    producers = {"layer4.0.conv3", "layer4.0.downsample.0", "layer4.1.conv3", "layer4.2.conv3"}
    assert producers | {"layer4.1.conv1", "layer4.2.conv1", "fc"} <= set(last.members)


def test_the_stride_is_in_the_middle_of_a_bottleneck() -> None:
    block = Bottleneck(16, 8, 32, stride=2)
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))
    assert block(torch.rand(2, 16, 8, 8)).shape == (2, 32, 4, 4)


def test_sums_do_not_blow_the_signal_up() -> None:
    network = zoo.resolve("resnet50@64", classes=100, in_channels=3)
    with torch.inference_mode():
        assert 0.1 < network.module(network.example_input).std() < 10  # 1 in every block would give 300
