"""What several tests of networks share: analysing takes a second or more, so each network is analysed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from small_networks import SMALL_NETWORKS, analysed, image

from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.zoo import build


@pytest.fixture(scope="session")
def zoo_network() -> Callable[[str], AdaptableNetwork]:
    """Gives the analysed zoo network of a name, at an eighth of its width and 32 x 32 pixels."""

    @cache
    def analyse_named(name: str) -> AdaptableNetwork:
        return analyse(name, build(f"{name}:0.125@32", classes=3, in_channels=3), image(1, 3, 32, 32))

    return analyse_named


@pytest.fixture(scope="session")
def small_network() -> Callable[[str], AdaptableNetwork]:
    """Gives the analysed small network of a name, with random weights."""
    return cache(lambda name: analysed(SMALL_NETWORKS[name]()))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
