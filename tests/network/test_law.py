"""The law of the plan: what it says of any widths is what is read from the network physically narrowed to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import SMALL_NETWORKS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from netadapt.network.network import AdaptableNetwork, observe
from netadapt.zoo import NETWORKS

Networks = Callable[[str], AdaptableNetwork]

QUICK = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def draw_widths(data: st.DataObject, network: AdaptableNetwork, multiple: int = 1) -> dict[str, int]:
    choices = {name: st.sampled_from(group.allowed_widths(multiple)) for name, group in network.groups.items()}
    return data.draw(st.fixed_dictionaries(choices), label="widths")


def counted_macs(module: nn.Module, network: AdaptableNetwork) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(network.example_input)
    return counter.get_total_flops() // 2


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def check_law(network: AdaptableNetwork, module: nn.Module, widths: dict[str, int]) -> None:
    seen = observe(module, network.example_input, widths)
    assert network.plan.at(widths) == seen.workloads
    assert network.plan.unknown == seen.unknown
    assert network.plan.params(widths) == sum(parameter.numel() for parameter in module.parameters())
    assert network.plan.macs(widths) == counted_macs(module, network)


@pytest.mark.parametrize("name", NETWORKS)
@given(data=st.data())
@QUICK
def test_plan_of_zoo_networks_is_what_narrowing_gives(zoo_network: Networks, name: str, data: st.DataObject) -> None:
    network = zoo_network(name)
    widths = draw_widths(data, network)
    narrowed = network.narrowed(network.module, widths)
    check_law(network, narrowed, widths)
    assert shapes(network.shaped(widths)) == shapes(narrowed)


@given(data=st.data())
@QUICK
def test_plan_at_multiples_of_8(zoo_network: Networks, data: st.DataObject) -> None:
    network = zoo_network("alexnet")
    widths = draw_widths(data, network, multiple=8)
    assert all(width % 8 == 0 or width == network.groups[name].width for name, width in widths.items())
    check_law(network, network.narrowed(network.module, widths), widths)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
@given(data=st.data())
@THOROUGH
def test_plan_of_small_networks_is_what_narrowing_gives(
    small_network: Networks, name: str, data: st.DataObject
) -> None:
    network = small_network(name)
    widths = draw_widths(data, network)
    narrowed = network.narrowed(network.module, widths)
    check_law(network, narrowed, widths)
    assert shapes(network.shaped(widths)) == shapes(narrowed)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
@given(data=st.data())
@THOROUGH
def test_plan_holds_after_narrowing_one_group_after_another(
    small_network: Networks, name: str, data: st.DataObject
) -> None:
    network = small_network(name)
    widths = draw_widths(data, network)
    module = network.module
    for group in data.draw(st.permutations(sorted(widths)), label="order"):
        module = network.narrowed(module, {group: widths[group]})
    check_law(network, module, widths)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_but_the_output_of_zoo_networks_is_adaptable(zoo_network: Networks, name: str) -> None:
    network = zoo_network(name)
    assert [left.reason for left in network.left_out] == ["its channels are part of the network's output"]
    assert network.plan.unknown == ()
    last = network.left_out[0].group
    convolutions = {
        layer
        for layer, module in network.module.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and layer != last
    }
    assert convolutions <= {member for group in network.groups.values() for member in group.members}
