"""AlexNet, one-tower version: Krizhevsky 2014, arXiv 1404.5997."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netadapt.zoo.layers import SMALL_INPUT, conv, round_channels

_CHANNELS = (64, 192, 384, 256, 256)
_HIDDEN = 4096


class AlexNet(nn.Module):
    """Five convolutions, three linear layers: [N, in_channels, size, size] -> logits [N, classes].

    Large inputs are convolved and pooled as published. Small ones get a 5 x 5 stem with stride 1 and padded pooling,
    so that 32 x 32 ends as 4 x 4. The last map is flattened as it is: the input must have the size built for.
    """

    def __init__(self, *, width: float, size: int, in_channels: int, classes: int) -> None:
        super().__init__()
        first, second, third, fourth, fifth = (round_channels(channels * width) for channels in _CHANNELS)
        small = size <= SMALL_INPUT
        stem = conv(in_channels, first, 5) if small else conv(in_channels, first, 11, stride=4, padding=2)
        pool_padding = 1 if small else 0
        self.features = nn.Sequential(
            stem,
            nn.MaxPool2d(3, stride=2, padding=pool_padding),
            conv(first, second, 5),
            nn.MaxPool2d(3, stride=2, padding=pool_padding),
            conv(second, third, 3),
            conv(third, fourth, 3),
            conv(fourth, fifth, 3),
            nn.MaxPool2d(3, stride=2, padding=pool_padding),
        )
        hidden = round_channels(_HIDDEN * width)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(fifth * _last_side(size) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, in_channels, size, size] to logits [N, classes]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits


def _last_side(size: int) -> int:
    """Height and width of the map that is flattened."""
    if size <= SMALL_INPUT:
        return -(-size // 8)  # three times halved, rounding up
    side = (size + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
