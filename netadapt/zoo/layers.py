"""What the network families share: rounding of widths, and convolution + normalisation + activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

SMALL_INPUT = 64
"""Up to this input size (pixels) the first convolution has stride 1, so that enough of the map is left."""


Activation = Callable[[], nn.Module]


def relu() -> nn.Module:
    """Build a ReLU; in place, as the next two, because that trains 10 % faster on a CPU."""
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    """Build a ReLU clipped at 6."""
    return nn.ReLU6(inplace=True)


def hardswish() -> nn.Module:
    """Build a hard-swish (arXiv 1905.02244, section 5.2)."""
    return nn.Hardswish(inplace=True)


def stem_stride(size: int) -> int:
    """Return the stride of the first convolution for a ``size`` x ``size`` input."""
    return 1 if size <= SMALL_INPUT else 2


def round_channels(channels: float, multiple: int = 8) -> int:
    """Round to a multiple of ``multiple``, never down by more than 10 %.

    Source: the MobileNet reference code's ``make_divisible`` (tensorflow/models, research/slim/nets/mobilenet).
    """
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded if rounded >= 0.9 * channels else rounded + multiple


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = relu,
) -> nn.Sequential:
    """Build a same-padded convolution, batch norm and activation: [N, inputs, H, W] -> [N, outputs, H', W']."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """Build a convolution (same-padded unless told) with bias and ReLU: [N, inputs, H, W] -> [N, outputs, H', W']."""
    if padding is None:
        padding = (kernel - 1) // 2
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), relu())


def initialise(module: nn.Module) -> None:
    """Draw fresh weights from the global generator: He et al. 2015 for convolutions, N(0, 0.01) for linear.

    Scaled by fan-in, which counts a group's channels only: by fan-out, which does not, depthwise layers would shrink
    the signal of an untrained network to numbers so small that they take a processor longer.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
