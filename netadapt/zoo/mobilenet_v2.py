"""MobileNetV2: Sandler et al. 2018, arXiv 1801.04381, table 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netadapt.zoo.layers import conv_bn, relu6, round_channels, stem_stride

_STEM = 32
_HEAD = 1280
# (expansion, output channels, repetitions, stride of the first) of each stage.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [conv_bn(inputs, hidden, kernel=1, activation=relu6)]
        layers.append(conv_bn(hidden, hidden, stride=stride, groups=hidden, activation=relu6))
        layers.append(conv_bn(hidden, outputs, kernel=1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        result: Tensor = self.layers(features)
        return features + result if self.has_shortcut else result


class MobileNetV2(nn.Module):
    """Inverted residuals with linear bottlenecks: [N, in_channels, size, size] -> logits [N, classes]."""

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = round_channels(_STEM * width)
        layers: list[nn.Module] = [conv_bn(in_channels, channels, stride=stem_stride(size), activation=relu6)]
        for expansion, base, repetitions, first_stride in _STAGES:
            outputs = round_channels(base * width)
            for index in range(repetitions):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride, expansion))
                channels = outputs
        # Section 4 of the paper: the last layer keeps its width in networks narrower than 1.0.
        head = round_channels(_HEAD * max(1.0, width))
        layers.append(conv_bn(channels, head, kernel=1, activation=relu6))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(head, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        pooled = torch.flatten(self.pool(self.features(images)), 1)
        logits: Tensor = self.classifier(pooled)
        return logits
