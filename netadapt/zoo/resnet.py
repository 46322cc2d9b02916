"""ResNet-18: He et al. 2015, arXiv 1512.03385, table 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from netadapt.zoo.layers import SMALL_INPUT, conv_bn, round_channels

# (channels, stride of the first block) of each stage of two blocks.
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, stride=stride)
        self.second = conv_bn(outputs, outputs, activation=None)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else conv_bn(inputs, outputs, 1, stride, activation=None)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return functional.relu(self.second(self.first(features)) + self.shortcut(features))


class ResNet18(nn.Module):
    """Residual network: [N, in_channels, size, size] -> logits [N, classes].

    Small inputs get the 3 x 3 stem without pooling that He et al. use on CIFAR-10 (section 4.2).
    """

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = round_channels(_STAGES[0][0] * width)
        if size <= SMALL_INPUT:
            stem: list[nn.Module] = [conv_bn(in_channels, channels)]
        else:
            stem = [conv_bn(in_channels, channels, kernel=7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
        blocks: list[nn.Module] = []
        for base, stride in _STAGES:
            outputs = round_channels(base * width)
            blocks += [BasicBlock(channels, outputs, stride), BasicBlock(outputs, outputs, 1)]
            channels = outputs
        self.features = nn.Sequential(*stem, *blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        pooled = torch.flatten(self.pool(self.features(images)), 1)
        logits: Tensor = self.classifier(pooled)
        return logits
