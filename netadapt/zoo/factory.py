"""From the name of a zoo network to a freshly initialised module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from netadapt.zoo.alexnet import AlexNet
from netadapt.zoo.layers import initialise
from netadapt.zoo.mobilenet_v1 import MobileNetV1
from netadapt.zoo.mobilenet_v2 import MobileNetV2
from netadapt.zoo.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from netadapt.zoo.resnet import ResNet18, ResNet50
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.squeezenet import SqueezeNet

_FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_large": MobileNetV3Large,
    "mobilenet_v3_small": MobileNetV3Small,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "squeezenet": SqueezeNet,
}


def build(spec: NetworkSpec | str, *, classes: int, in_channels: int, seed: int = 0) -> nn.Module:
    """Build a network with fresh weights: [N, in_channels, size, size] -> logits [N, classes], in train mode.

    The weights depend on ``seed`` alone; the global random state is left as it was.

    Raises:
        UnknownNameError: there is no network of this name.
        ModelError: a width, size, number of classes or of channels is out of range.

    """
    if isinstance(spec, str):
        spec = NetworkSpec.parse(spec)
    spec.require_shape(classes, in_channels)
    family = _FAMILIES[spec.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = family(width=spec.width, size=spec.size, in_channels=in_channels, classes=classes)
        initialise(module)
    return module
