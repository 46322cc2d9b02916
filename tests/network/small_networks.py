"""Networks small enough to be worked out by hand, and short ways to look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from netadapt.network.fusion import Reading, read_workloads
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.network.trace import trace

Conv = nn.Conv2d


class Net(nn.Module):
    """Named layers and what happens with them: `Net(lambda net, x: net.b(net.a(x)), a=..., b=...)`."""

    def __init__(self, compute: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._compute = compute

    def forward(self, images: Tensor) -> Any:
        return self._compute(self, images)


def image(*shape: int) -> Tensor:
    return torch.randn(shape or (1, 3, 8, 8), generator=torch.Generator().manual_seed(0))


def read(module: nn.Module, *shape: int) -> Reading:
    return read_workloads(trace(module, image(*shape)))


def analysed(module: nn.Module, *shape: int) -> AdaptableNetwork:
    randomise(module)
    return analyse("small", module, image(*shape))


def randomise(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own, so that mixed-up channels show."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.data = torch.randn(layer.running_mean.shape, generator=generator)
            layer.running_var.data = torch.rand(layer.running_var.shape, generator=generator) + 0.5
    return module


def head(channels: int) -> nn.Sequential:
    """Global average pool and a linear layer with 5 outputs, which is layer 2."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def residual() -> nn.Module:
    """Channels of `stem` and `b` are added."""

    def compute(net: Any, x: Tensor) -> Tensor:
        y = torch.relu(net.stem(x))
        return net.head(torch.relu(y + net.b(torch.relu(net.a(y)))))

    return Net(compute, stem=Conv(3, 8, 1), a=Conv(8, 6, 3, padding=1), b=Conv(6, 8, 1), head=head(8))


def concatenated() -> nn.Module:
    """A squeezed map, expanded twice, side by side."""

    def compute(net: Any, x: Tensor) -> Tensor:
        y = torch.relu(net.squeeze(x))
        return net.head(net.last(torch.cat([net.small(y), net.large(y)], 1)))

    return Net(
        compute,
        squeeze=Conv(3, 4, 1),
        small=Conv(4, 6, 1),
        large=Conv(4, 2, 3, padding=1),
        last=Conv(8, 7, 1),
        head=head(7),
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        Conv(3, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        Conv(6, 6, 3, groups=6),
        nn.ReLU(),
        Conv(6, 4, 1),
        head(4),
    )


def grouped() -> nn.Module:
    """A convolution in 2 groups, from 8 to 12 channels."""
    return nn.Sequential(
        Conv(3, 8, 1), nn.ReLU(), Conv(8, 12, 3, groups=2), nn.ReLU(), Conv(12, 6, 1), nn.ReLU(), head(6)
    )


def squeeze_excite() -> nn.Module:
    """The map of `stem` is scaled by a gate computed from it in `hidden` channels."""

    def compute(net: Any, x: Tensor) -> Tensor:
        y = torch.relu(net.stem(x))
        gate = torch.sigmoid(net.expand(torch.relu(net.reduce(y.mean((2, 3), keepdim=True)))))
        return net.head(net.last(y * gate))

    layers = {"stem": Conv(3, 8, 1), "reduce": Conv(8, 4, 1), "expand": Conv(4, 8, 1), "last": Conv(8, 6, 1)}
    return Net(compute, **layers, head=head(6))


def flattened() -> nn.Module:
    """4 channels of 2 x 2 pixels are 16 features of the first of two linear layers."""
    return nn.Sequential(
        Conv(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 5)
    )


SMALL_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "concatenated": concatenated,
    "depthwise": depthwise,
    "grouped": grouped,
    "squeeze_excite": squeeze_excite,
    "flattened": flattened,
}
