"""SqueezeNet v1.1: Iandola et al. 2016, arXiv 1602.07360, and github.com/forresti/SqueezeNet for v1.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netadapt.zoo.layers import conv, round_channels, stem_stride

_STEM = 64
# (squeezed channels, expanded channels in total) of the fire modules between two poolings.
_STAGES = (
    ((16, 128), (16, 128)),
    ((32, 256), (32, 256)),
    ((48, 384), (48, 384), (64, 512), (64, 512)),
)


class Fire(nn.Module):
    """Squeeze, then expand by 1 x 1 and 3 x 3 side by side: [N, inputs, H, W] -> [N, 2 * expanded, H, W]."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = conv(inputs, squeezed, kernel=1)
        self.expand1x1 = conv(squeezed, expanded, kernel=1)
        self.expand3x3 = conv(squeezed, expanded, kernel=3)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, 2 * expanded, H, W]."""
        squeezed = self.squeeze(features)
        return torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1)


class SqueezeNet(nn.Module):
    """Fire modules and a convolution as classifier: [N, in_channels, size, size] -> logits [N, classes].

    The stem is unpadded as published; three poolings by 2 leave a 4 x 4 map of a 32 x 32 input. Without batch norm it
    needs a low learning rate: from scratch 0.005 works and 0.02 does not.
    """

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = round_channels(_STEM * width)
        layers: list[nn.Module] = [conv(in_channels, channels, kernel=3, stride=stem_stride(size), padding=0)]
        for stage in _STAGES:
            layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            for squeezed, outputs in stage:
                expanded = round_channels(outputs // 2 * width)
                layers.append(Fire(channels, round_channels(squeezed * width), expanded))
                channels = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.5), conv(channels, classes, kernel=1))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        return torch.flatten(self.pool(self.classifier(self.features(images))), 1)
