"""MobileNetV1: Howard et al. 2017, arXiv 1704.04861, table 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netadapt.zoo.layers import conv_bn, round_channels, stem_stride

_STEM = 32
# (output channels, stride) of each depthwise-separable block.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class MobileNetV1(nn.Module):
    """Depthwise-separable network: [N, in_channels, size, size] -> logits [N, classes]."""

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = round_channels(_STEM * width)
        layers = [conv_bn(in_channels, channels, stride=stem_stride(size))]
        for base, stride in _BLOCKS:
            outputs = round_channels(base * width)
            layers.append(_separable(channels, outputs, stride))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        pooled = torch.flatten(self.pool(self.features(images)), 1)
        logits: Tensor = self.classifier(pooled)
        return logits


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    depthwise = conv_bn(inputs, inputs, stride=stride, groups=inputs)
    pointwise = conv_bn(inputs, outputs, kernel=1)
    return nn.Sequential(depthwise, pointwise)
