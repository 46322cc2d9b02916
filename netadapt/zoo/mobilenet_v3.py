"""MobileNetV3, large and small: Howard et al. 2019, arXiv 1905.02244, tables 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netadapt.zoo.layers import conv_bn, hardswish, relu, round_channels, stem_stride

_STEM = 16


@dataclass(frozen=True)
class _Block:
    """One row of the paper's tables, in channels at width 1."""

    kernel: int
    hidden: int
    outputs: int
    squeeze_excite: bool
    hard: bool  # hard-swish, else ReLU
    stride: int


_LARGE = (
    _Block(3, 16, 16, False, False, 1),
    _Block(3, 64, 24, False, False, 2),
    _Block(3, 72, 24, False, False, 1),
    _Block(5, 72, 40, True, False, 2),
    _Block(5, 120, 40, True, False, 1),
    _Block(5, 120, 40, True, False, 1),
    _Block(3, 240, 80, False, True, 2),
    _Block(3, 200, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 480, 112, True, True, 1),
    _Block(3, 672, 112, True, True, 1),
    _Block(5, 672, 160, True, True, 2),
    _Block(5, 960, 160, True, True, 1),
    _Block(5, 960, 160, True, True, 1),
)
_SMALL = (
    _Block(3, 16, 16, True, False, 2),
    _Block(3, 72, 24, False, False, 2),
    _Block(3, 88, 24, False, False, 1),
    _Block(5, 96, 40, True, True, 2),
    _Block(5, 240, 40, True, True, 1),
    _Block(5, 240, 40, True, True, 1),
    _Block(5, 120, 48, True, True, 1),
    _Block(5, 144, 48, True, True, 1),
    _Block(5, 288, 96, True, True, 2),
    _Block(5, 576, 96, True, True, 1),
    _Block(5, 576, 96, True, True, 1),
)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels / 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Sequential(nn.Conv2d(channels, squeezed, 1), relu())
        self.expand = nn.Sequential(nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        gate: Tensor = self.expand(self.reduce(self.pool(features)))
        return features * gate


class Bottleneck(nn.Module):
    """Expand, filter depthwise, squeeze-excite, project; added to the input where shapes allow."""

    def __init__(self, inputs: int, block: _Block, width: float) -> None:
        super().__init__()
        hidden, outputs = round_channels(block.hidden * width), round_channels(block.outputs * width)
        activation = hardswish if block.hard else relu
        layers: list[nn.Module] = [] if hidden == inputs else [conv_bn(inputs, hidden, 1, activation=activation)]
        layers.append(conv_bn(hidden, hidden, block.kernel, block.stride, groups=hidden, activation=activation))
        if block.squeeze_excite:
            layers.append(SqueezeExcite(hidden))
        layers.append(conv_bn(hidden, outputs, kernel=1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = block.stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        result: Tensor = self.layers(features)
        return features + result if self.has_shortcut else result


class _MobileNetV3(nn.Module):
    """Bottlenecks with squeeze-excite and hard-swish: [N, in_channels, size, size] -> logits [N, classes]."""

    def __init__(
        self, blocks: tuple[_Block, ...], head: int, *, width: float, size: int, in_channels: int, classes: int
    ) -> None:
        super().__init__()
        channels = round_channels(_STEM * width)
        layers: list[nn.Module] = [conv_bn(in_channels, channels, stride=stem_stride(size), activation=hardswish)]
        for block in blocks:
            layers.append(Bottleneck(channels, block, width))
            channels = round_channels(block.outputs * width)
        last = 6 * channels
        layers.append(conv_bn(channels, last, kernel=1, activation=hardswish))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        hidden = round_channels(head * width)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), hardswish(), nn.Dropout(0.2), nn.Linear(hidden, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        pooled = torch.flatten(self.pool(self.features(images)), 1)
        logits: Tensor = self.classifier(pooled)
        return logits


class MobileNetV3Large(_MobileNetV3):
    """The paper's table 1."""

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__(_LARGE, 1280, width=width, size=size, in_channels=in_channels, classes=classes)


class MobileNetV3Small(_MobileNetV3):
    """The paper's table 2."""

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__(_SMALL, 1024, width=width, size=size, in_channels=in_channels, classes=classes)
