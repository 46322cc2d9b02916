"""Recording what a network executes, without changing it."""

from __future__ import annotations

import pytest
import torch
from small_networks import Conv, Net, image
from torch import nn

from netadapt.network.trace import NETWORK_INPUT, trace


def test_operations_values_and_shapes_by_hand() -> None:
    recorded = trace(nn.Sequential(Conv(3, 4, 3, padding=1), nn.ReLU(inplace=True)), image())
    convolution, activation = recorded.ops
    assert (convolution.name, convolution.inputs, convolution.in_shapes) == (
        "convolution",
        (NETWORK_INPUT,),
        ((1, 3, 8, 8),),
    )
    assert convolution.arguments["weight"] == (4, 3, 3, 3)
    assert convolution.arguments["padding"] == (1, 1)
    assert (activation.name, activation.inputs, activation.out_shape) == ("relu", (convolution.output,), (1, 4, 8, 8))
    assert recorded.outputs == (activation.output,)


def test_result_is_what_the_network_computes() -> None:
    net = Net(lambda net, x: {"sum": x.sum(), "parts": [net.conv(x)]}, conv=Conv(3, 4, 1))
    recorded = trace(net, image())
    expected = net(image())
    torch.testing.assert_close(recorded.result, (expected["sum"], expected["parts"][0]))


def test_what_does_not_depend_on_the_input_is_not_recorded() -> None:
    net = Net(lambda net, x: x + (net.conv.weight * 2).sum(), conv=Conv(3, 4, 1))
    assert [op.name for op in trace(net, image()).ops] == ["add"]


def test_a_network_that_changes_its_input_leaves_ours_alone() -> None:
    example = image()
    trace(Net(lambda net, x: x.sub_(0.5).div_(0.25)), example)
    assert torch.equal(example, image())


def test_layers_are_evaluated_and_get_their_modes_back() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    net[1].eval()
    before = net[1].running_mean.clone()
    recorded = trace(net, image())
    assert [layer.training for layer in net.modules()] == [True, True, False, True]
    assert torch.equal(net[1].running_mean, before)
    assert len(recorded.ops) == 2  # no dropout


def test_modes_come_back_after_a_failure_too() -> None:
    net = nn.Sequential(Conv(4, 4, 1))
    with pytest.raises(RuntimeError):
        trace(net, image())
    assert net.training
    assert net[0].training
