from __future__ import annotations

import pytest
import torch

from netadapt import zoo
from netadapt.errors import ModelError
from netadapt.zoo.layers import round_channels

PUBLISHED_PARAMETERS = {
    "alexnet": 61_100_840,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "squeezenet": 1_235_496,
}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_parameters_are_as_published(name: str) -> None:
    module = zoo.build(name, classes=1000, in_channels=3)
    assert sum(parameter.numel() for parameter in module.parameters()) == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.parametrize(("size", "channels"), [(32, 1), (33, 3), (64, 1), (65, 3), (224, 3)])
def test_every_size_gives_logits(name: str, size: int, channels: int) -> None:
    module = zoo.build(f"{name}:0.25@{size}", classes=7, in_channels=channels).eval()
    with torch.inference_mode():
        logits = module(torch.rand(2, channels, size, size))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    module = zoo.build(f"{name}:0.25@32", classes=3, in_channels=1).eval()  # eval: dropout would hide some
    module(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert [label for label, parameter in module.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_fresh_networks_keep_the_scale_of_the_signal(name: str) -> None:
    """Else an untrained network is timed on denormal numbers."""
    network = zoo.resolve(f"{name}@32", classes=10, in_channels=1)
    with torch.inference_mode():
        assert 1e-3 < network.module(network.example_input).abs().max() < 1e3


def test_small_inputs_are_not_halved_by_the_first_convolution() -> None:
    small = zoo.build("mobilenet_v1:0.25@64", classes=2, in_channels=1).features[0]
    large = zoo.build("mobilenet_v1:0.25@65", classes=2, in_channels=1).features[0]
    assert small(torch.rand(1, 1, 64, 64)).shape == (1, 8, 64, 64)
    assert large(torch.rand(1, 1, 65, 65)).shape == (1, 8, 33, 33)


@pytest.mark.parametrize(("channels", "rounded"), [(1, 8), (16, 16), (11.9, 16), (12, 16), (20, 24), (36.9, 40)])
def test_widths_are_multiples_of_8_and_lose_at_most_a_tenth(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


def test_weights_depend_on_the_seed_alone_and_leave_the_global_state() -> None:
    before = torch.get_rng_state()
    first, again, other = (zoo.build("squeezenet:0.25@32", classes=2, in_channels=1, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weight = "features.0.0.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (10, 2)])
def test_impossible_classes_or_channels_are_refused(classes: int, channels: int) -> None:
    with pytest.raises(ModelError, match=r"at least 1 class|1 or 3 channels"):
        zoo.build("resnet18", classes=classes, in_channels=channels)
