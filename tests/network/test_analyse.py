"""Analysing whole networks: what comes out when parts of it, or all of it, cannot be adapted."""

from __future__ import annotations

import pytest
import torch
from small_networks import Conv, Net, analysed, head, image, randomise
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.network.network import analyse, observe
from netadapt.network.workload import Workload


def test_plan_and_widths_of_a_network_by_hand() -> None:
    network = analysed(nn.Sequential(Conv(3, 4, 1), nn.ReLU(), head(4)))
    assert network.widths == {"0": 4}
    assert network.plan.at({"0": 3}) == (
        Workload("conv", (3,), 3, (8, 8), bias=True, activation="relu"),
        Workload("global_avg_pool", (3,), 3, (8, 8)),
        Workload("linear", (3,), 5, bias=True),
    )
    assert network.plan.params({"0": 3}) == (3 * 3 + 3) + (3 * 5 + 5)
    assert network.plan.macs({"0": 3}) == 64 * 3 * 3 + 3 * 5


def test_groups_are_tried_in_the_order_of_the_layers_and_announced() -> None:
    announced: list[tuple[str, int, int]] = []
    net = nn.Sequential(Conv(3, 4, 1), nn.ReLU(), Conv(4, 6, 1), head(6))
    network = analyse("net", net, image(), on_group=lambda *told: announced.append(told))
    assert announced == [("0", 0, 3), ("2", 1, 3), ("3.2", 2, 3)]
    assert list(network.groups) == ["0", "2"]


def test_a_network_that_cannot_run_is_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"^my net cannot be run on an input of shape \[1, 3, 8, 8\]: RuntimeError:"):
        analyse("my net", Conv(4, 8, 1), image())


def test_a_network_that_cannot_be_copied_is_a_model_error() -> None:
    net = Net(lambda net, x: net.conv(x), conv=Conv(3, 4, 1))
    net.cached = net.conv.weight * 2
    with pytest.raises(ModelError, match=r"^my net cannot be copied: RuntimeError: Only Tensors created explicitly"):
        analyse("my net", net, image())


def test_a_network_whose_dependencies_cannot_be_analysed_has_a_plan_without_groups() -> None:
    def forward(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise TypeError("not differentiable")
        return net.head(net.conv(x))

    net = Net(forward, conv=Conv(3, 4, 1), head=head(4))
    network = analyse("net", net, image())
    assert (network.groups, network.widths) == ({}, {})
    (left,) = network.left_out
    assert left.group == "all"
    assert left.reason.startswith("its layers' dependencies cannot be analysed: TypeError: ")
    assert network.plan.at({}) == observe(net, image(), {}).workloads
    assert [workload.op for workload in network.plan.at({})] == ["conv", "global_avg_pool", "linear"]
    for module in (network.shaped({}), network.narrowed(net, {})):
        with torch.no_grad():
            assert torch.equal(module(image()), net(image()))


def test_unknown_operations_are_reported_and_do_not_hinder() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.Upsample(scale_factor=2), nn.LeakyReLU(), Conv(4, 6, 1), head(6))
    network = analysed(net)
    assert network.plan.unknown == ("upsample_nearest2d", "leaky_relu")
    assert network.widths == {"0": 4, "3": 6}


def test_analysing_leaves_the_module_as_it_was() -> None:
    net = randomise(nn.Sequential(Conv(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Conv(4, 6, 1), head(6)))
    net[0].weight.requires_grad_(False)
    net[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [layer.training for layer in net.modules()]
    example = image()
    network = analyse("net", net, example)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [layer.training for layer in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == [False, *[True] * 7]
    assert [parameter.requires_grad for parameter in network.module.parameters()] == [False, *[True] * 7]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(layer._forward_hooks for layer in net.modules())
    assert torch.equal(example, image())


def test_frozen_parameters_can_be_narrowed_and_stay_frozen() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.ReLU(), head(4)).requires_grad_(False)
    narrowed = analyse("net", net, image()).narrowed(net, {"0": 2})
    assert narrowed[0].out_channels == 2
    assert not any(parameter.requires_grad for parameter in narrowed.parameters())


def test_a_network_that_normalises_its_input_in_place_is_adaptable() -> None:
    net = Net(lambda net, x: net.head(net.conv(x.sub_(0.5).div_(0.25))), conv=Conv(3, 4, 1), head=head(4))
    assert set(analysed(net).groups) == {"conv"}


def test_results_do_not_depend_on_the_global_random_state() -> None:
    def of(seed: int) -> object:
        torch.manual_seed(seed)
        network = analysed(nn.Sequential(Conv(3, 4, 1), nn.ReLU(), head(4)))
        return network.groups, network.left_out, network.plan

    assert of(1) == of(2)


def test_several_outputs() -> None:
    def compute(net: Net, x: Tensor) -> dict[str, Tensor]:
        y = torch.relu(net.stem(x))
        return {"class": net.head(y), "mask": net.mask(y)}

    network = analysed(Net(compute, stem=Conv(3, 6, 1), head=head(6), mask=Conv(6, 2, 1)))
    assert set(network.groups) == {"stem"}
    assert {left.group for left in network.left_out} == {"head.2", "mask"}
    assert network.plan.at({"stem": 2})[-1] == Workload("conv", (2,), 2, (8, 8), bias=True)
