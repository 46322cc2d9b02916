"""From what a user calls a network to the module, its weights and an example input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.network.soundness import require_sound
from netadapt.zoo.factory import build
from netadapt.zoo.spec import DEFAULT_SIZE, NetworkSpec
from netadapt.zoo.user_code import call_factory, names_user_code
from netadapt.zoo.weight_files import find_bundled, load_weights

_IMAGENET_CLASSES = 1000
_RGB = 3


@dataclass(frozen=True)
class ResolvedNetwork:
    """A network ready to be used: ``module`` in eval mode, ``example_input`` [1, C, H, W].

    ``pretrained`` says whether weights were loaded; a user's factory without a weight file is taken to return trained
    weights.
    """

    module: nn.Module
    example_input: Tensor
    name: str
    pretrained: bool


def resolve(
    name: str,
    *,
    classes: int | None,
    in_channels: int | None,
    weights: Path | None = None,
    pretrained_on: str | None = None,
    size: int | None = None,
) -> ResolvedNetwork:
    """Find the network ``name``: ``NAME[:WIDTH][@SIZE]`` of the zoo, or a user's ``package.module:factory``.

    ``classes`` and ``in_channels`` default to ImageNet's 1000 and 3. ``weights`` is a safetensors file, loaded
    strictly; without it, ``pretrained_on`` picks bundled weights for that data set where there are some.
    ``size`` (pixels) is the example input of a user's network that brings none, default 224.

    Raises:
        UnknownNameError: neither a zoo network nor importable.
        ModelError: the name is malformed, a user's factory fails, or the weights cannot be read or do not fit.

    """
    if names_user_code(name):
        return _resolve_user_code(name, in_channels or _RGB, size or DEFAULT_SIZE, weights)
    spec = NetworkSpec.parse(name)
    if size is not None and size != spec.size:
        right = replace(spec, size=size)
        raise ModelError(f"network {name!r} takes {spec.size} pixels, not {size}; name it {right}")
    classes = _IMAGENET_CLASSES if classes is None else classes
    in_channels = _RGB if in_channels is None else in_channels
    return _resolve_zoo(spec, classes, in_channels, weights, pretrained_on)


def _resolve_zoo(
    spec: NetworkSpec, classes: int, channels: int, weights: Path | None, pretrained_on: str | None
) -> ResolvedNetwork:
    module = build(spec, classes=classes, in_channels=channels)
    if weights is None and pretrained_on is not None:
        bundled = find_bundled(spec, pretrained_on)
        if bundled is not None and (bundled.classes, bundled.channels) == (classes, channels):
            weights = bundled.path
    if weights is not None:
        load_weights(module, weights)
    return ResolvedNetwork(module.eval(), _example_input(channels, spec.size), str(spec), weights is not None)


def _resolve_user_code(name: str, channels: int, size: int, weights: Path | None) -> ResolvedNetwork:
    module, example_input = call_factory(name)
    if example_input is None:
        example_input = _example_input(channels, size)
    if weights is not None:
        load_weights(module, weights)
    module.eval()
    require_sound(repr(name), module, example_input)
    return ResolvedNetwork(module, example_input, name, pretrained=True)


def _example_input(channels: int, size: int) -> Tensor:
    """Make noise, not zeros, so that comparing two runtimes' outputs on it says something."""
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))
