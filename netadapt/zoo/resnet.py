"""ResNet-18 and ResNet-50: He et al. 2015, arXiv 1512.03385, table 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from netadapt.zoo.layers import SMALL_INPUT, conv_bn, round_channels

# (channels, stride of the first block) of each stage; ResNet-18 has two blocks in each.
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
_BOTTLENECKS = (3, 4, 6, 3)
_EXPANSION = 4  # what a bottleneck widens its inner channels to
# Of the last normalisation in a fresh bottleneck. With 1 each sum would double the variance of the signal; with this
# it keeps its scale over all 16. Goyal et al. (section 5.1) begin with 0, but then no trial would see the blocks.
_FIRST_SCALE = 1 / math.sqrt(sum(_BOTTLENECKS))


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


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution and a shortcut: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride].

    The 3 x 3 has the stride, not the first 1 x 1 as in the paper: the variant that everybody trains (Goyal et al. 2017,
    arXiv 1706.02677, section 5.1; also called version 1.5).
    """

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.bn3.weight, _FIRST_SCALE)
        same_shape = stride == 1 and inputs == outputs
        self.downsample = nn.Identity() if same_shape else conv_bn(inputs, outputs, 1, stride, activation=None)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        inner = functional.relu_(self.bn1(self.conv1(features)))
        inner = functional.relu_(self.bn2(self.conv2(inner)))
        return functional.relu_(self.bn3(self.conv3(inner)) + self.downsample(features))


class ResNet50(nn.Module):
    """Residual network of bottlenecks: [N, in_channels, size, size] -> logits [N, classes].

    Its parameters are named as torchvision names them, so that weights trained there load. Small inputs get the stem
    of `ResNet18`.
    """

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = round_channels(_STAGES[0][0] * width)
        small = size <= SMALL_INPUT
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        for (base, stride), count in zip(_STAGES, _BOTTLENECKS, strict=True):
            inner = round_channels(base * width)
            stages.append(_stage(channels, inner, stride, count))
            channels = _EXPANSION * inner
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        features = self.maxpool(functional.relu_(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(features), 1))
        return logits


def _stage(inputs: int, inner: int, stride: int, count: int) -> nn.Sequential:
    outputs = _EXPANSION * inner
    first = Bottleneck(inputs, inner, outputs, stride)
    return nn.Sequential(first, *(Bottleneck(outputs, inner, outputs, 1) for _ in range(count - 1)))
