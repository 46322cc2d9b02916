"""Networks that normalise their input themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netadapt.network.preprocessing import Preprocessing


class Normalising(nn.Module):
    """A network that takes pixels from 0 to 255, float32 `[N, C, H, W]`, and normalises them itself."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        deviation = torch.tensor(std).view(1, -1, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -torch.tensor(mean).view(1, -1, 1, 1) / deviation)

    def forward(self, pixels: Tensor) -> Tensor:
        """The network's output for the normalised pixels."""
        output: Tensor = self.network(pixels * self.scale + self.shift)
        return output


def deployable(module: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """The module as it is to be exported: with the normalisation in front, if that is asked for."""
    return Normalising(module, preprocessing.mean, preprocessing.std) if preprocessing.in_model else module
