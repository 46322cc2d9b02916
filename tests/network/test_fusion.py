"""Networks of a few layers and the workloads they are read as, written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_networks import Conv, Net, read
from torch import Tensor, nn

from netadapt.network.workload import Workload

CONV = Workload("conv", (3,), 4, (8, 8), bias=True)
"""What `Conv(3, 4, 1)` is on the default image, 8 x 8 pixels."""


def same(kind: str, channels: int, size: tuple[int, int] = (8, 8), inputs: int = 1, **fields: object) -> Workload:
    return Workload(kind, (channels,) * inputs, channels, size, **fields)


def test_convolution_takes_batch_norm_and_activation() -> None:
    net = nn.Sequential(Conv(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    expected = Workload("conv", (3,), 8, (9, 7), (3, 3), (2, 2), (1, 1), bias=True, activation="relu")
    assert read(net, 1, 3, 9, 7).workloads == (expected,)


def test_every_field_of_a_convolution_is_read() -> None:
    net = Conv(4, 6, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1), groups=2, bias=False)
    expected = Workload("conv", (4,), 6, (8, 9), (3, 2), (1, 2), (2, 0), (2, 1), groups=2, batch=3)
    assert read(net, 3, 4, 8, 9).workloads == (expected,)


def test_batch_norm_stays_when_the_convolution_has_two_readers() -> None:
    net = Net(lambda net, x: (lambda y: net.norm(y) + y)(net.conv(x)), conv=Conv(3, 4, 1), norm=nn.BatchNorm2d(4))
    assert read(net).workloads == (CONV, same("batch_norm", 4), same("add", 4, inputs=2))


def test_batch_norm_stays_when_the_convolution_is_an_output() -> None:
    net = Net(lambda net, x: (lambda y: (y, net.norm(y)))(net.conv(x)), conv=Conv(3, 4, 1), norm=nn.BatchNorm2d(4))
    assert read(net).workloads == (CONV, same("batch_norm", 4))


def test_activation_stays_when_the_convolution_has_two_readers() -> None:
    net = Net(lambda net, x: (lambda y: torch.relu(y) + y)(net.conv(x)), conv=Conv(3, 4, 1))
    assert read(net).workloads == (CONV, same("activation", 4, activation="relu"), same("add", 4, inputs=2))


def test_batch_norm_is_folded_even_if_its_own_result_has_two_readers() -> None:
    net = Net(
        lambda net, x: (lambda y: torch.relu(y) + y)(net.norm(net.conv(x))),
        conv=Conv(3, 4, 1, bias=False),
        norm=nn.BatchNorm2d(4),
    )
    assert read(net).workloads == (CONV, same("activation", 4, activation="relu"), same("add", 4, inputs=2))


def test_batch_norm_behind_an_activation_is_not_folded() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    assert [workload.op for workload in read(net).workloads] == ["conv", "batch_norm"]


def test_a_second_activation_is_not_fused() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.ReLU(), nn.Sigmoid())
    assert [workload.activation for workload in read(net).workloads] == ["relu", "sigmoid"]


def test_residual_addition_takes_the_activation() -> None:
    net = Net(lambda net, x: F.relu(net.a(x) + net.b(x)), a=Conv(3, 4, 1), b=Conv(3, 4, 1))
    assert read(net).workloads == (CONV, CONV, same("add", 4, inputs=2, activation="relu"))


def test_in_place_addition_and_activation_are_read_as_the_others() -> None:
    def compute(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        y += net.b(x)
        return F.relu_(y)

    net = Net(compute, a=Conv(3, 4, 1), b=Conv(3, 4, 1))
    assert read(net).workloads == (CONV, CONV, same("add", 4, inputs=2, activation="relu"))


def test_what_reads_a_value_after_an_in_place_activation_reads_the_activated_one() -> None:
    def compute(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        F.relu_(y)
        return y + net.b(y)

    expected = (
        Workload("conv", (3,), 4, (8, 8), bias=True, activation="relu"),
        Workload("conv", (4,), 4, (8, 8), bias=True),
        same("add", 4, inputs=2),
    )
    assert read(Net(compute, a=Conv(3, 4, 1), b=Conv(4, 4, 1))).workloads == expected


def test_concat_takes_an_activation() -> None:
    net = Net(lambda net, x: F.relu(torch.cat([net.a(x), x], 1)), a=Conv(3, 4, 1))
    assert read(net).workloads == (CONV, Workload("concat", (4, 3), 7, (8, 8), activation="relu"))


def test_batch_norm_after_concat_stands_alone() -> None:
    net = Net(lambda net, x: F.relu(net.norm(torch.cat([net.a(x), x], 1))), a=Conv(3, 4, 1), norm=nn.BatchNorm2d(7))
    concat = Workload("concat", (4, 3), 7, (8, 8))
    assert read(net).workloads == (CONV, concat, same("batch_norm", 7, activation="relu"))


def test_concat_along_another_axis_is_unknown() -> None:
    assert read(Net(lambda net, x: torch.cat([x, x], 2))).unknown == ("cat",)


@pytest.mark.parametrize("size", [(8, 8), (8, 1), (1, 8)])
@pytest.mark.parametrize("multiply", [lambda y, gate: y * gate, lambda y, gate: gate * y], ids=["map", "gate"])
def test_squeeze_excite_scales_in_either_order(multiply: object, size: tuple[int, int]) -> None:
    def compute(net: Net, x: Tensor) -> Tensor:
        y = net.stem(x)
        return multiply(y, torch.sigmoid(net.gate(F.adaptive_avg_pool2d(y, 1))))

    net = Net(compute, stem=Conv(3, 4, 1), gate=Conv(4, 4, 1))
    expected = (
        Workload("conv", (3,), 4, size, bias=True),
        same("global_avg_pool", 4, size),
        Workload("conv", (4,), 4, (1, 1), bias=True, activation="sigmoid"),
        same("scale", 4, size, inputs=2),
    )
    assert read(net, 1, 3, *size).workloads == expected


def test_product_of_equal_shapes() -> None:
    net = Net(lambda net, x: net.a(x) * torch.sigmoid(net.b(x)), a=Conv(3, 4, 1), b=Conv(3, 4, 1))
    gate = Workload("conv", (3,), 4, (8, 8), bias=True, activation="sigmoid")
    assert read(net).workloads == (CONV, gate, same("mul", 4, inputs=2))


@pytest.mark.parametrize(
    "factor", [lambda x: 2.0, lambda x: x.mean(), lambda x: x[:, :1], lambda x: torch.ones(3, 1, 1)]
)
def test_other_products_are_unknown(factor: object) -> None:
    reading = read(Net(lambda net, x: x * factor(x)))
    assert "mul" in reading.unknown
    assert reading.workloads == ()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.MaxPool2d(3, 2, 1), same("max_pool", 4, kernel=(3, 3), stride=(2, 2), padding=(1, 1))),
        (nn.MaxPool2d(2, ceil_mode=True), same("max_pool", 4, kernel=(2, 2), stride=(2, 2), ceil_mode=True)),
        (nn.AvgPool2d((2, 4)), same("avg_pool", 4, kernel=(2, 4), stride=(2, 4))),
        (
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            same(
                "avg_pool",
                4,
                kernel=(3, 3),
                stride=(2, 2),
                padding=(1, 1),
                ceil_mode=True,
                count_include_pad=False,
            ),
        ),
        (nn.AdaptiveAvgPool2d(1), same("global_avg_pool", 4)),
        (nn.AdaptiveAvgPool2d((4, 2)), same("avg_pool", 4, kernel=(2, 4), stride=(2, 4))),
        (Net(lambda net, x: x.mean((2, 3))), same("global_avg_pool", 4)),
        (Net(lambda net, x: x.mean((-1, -2), keepdim=True)), same("global_avg_pool", 4)),
    ],
    ids=str,
)
def test_pools(layer: nn.Module, expected: Workload) -> None:
    assert read(layer, 1, 4, 8, 8).workloads == (expected,)
    height, width = expected.out_size
    assert layer(torch.zeros(1, 4, 8, 8)).numel() == 4 * height * width


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.AdaptiveAvgPool2d(3), "_adaptive_avg_pool2d"),
        (nn.AdaptiveMaxPool2d(2), "adaptive_max_pool2d"),
        (nn.MaxPool2d(2, dilation=2), "max_pool2d_with_indices"),
        (nn.AvgPool2d(2, divisor_override=3), "avg_pool2d"),
        (Net(lambda net, x: x.mean(1, keepdim=True)), "mean"),
        (Net(lambda net, x: x.mean()), "mean"),
        (nn.Upsample(scale_factor=2), "upsample_nearest2d"),
        (nn.GroupNorm(2, 4), "native_group_norm"),
        (nn.InstanceNorm2d(4), "native_batch_norm"),
        (nn.BatchNorm2d(4, track_running_stats=False), "native_batch_norm"),
        (nn.ConvTranspose2d(4, 4, 2), "convolution"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.Hardtanh(), "hardtanh"),
        (Net(lambda net, x: x.transpose(2, 3)), "transpose"),
        (Net(lambda net, x: torch.add(x, x, alpha=2)), "add"),
        (Net(lambda net, x: x + 1), "add"),
    ],
    ids=str,
)
def test_unknown_operations_are_named(layer: nn.Module, name: str) -> None:
    reading = read(layer, 1, 4, 8, 8)
    assert reading.unknown == (name,)
    assert reading.workloads == ()


def test_normalisation_by_the_image_itself_is_not_folded() -> None:
    reading = read(nn.Sequential(Conv(3, 4, 1), nn.InstanceNorm2d(4)))
    assert (reading.workloads, reading.unknown) == ((CONV,), ("native_batch_norm",))


def test_flatten_and_linear_layers() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.Flatten(), nn.Linear(256, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())
    linear = Workload("linear", (256,), 6, bias=True, activation="relu", batch=2)
    assert read(net, 2, 3, 8, 8).workloads == (Workload("conv", (3,), 4, (8, 8), bias=True, batch=2), linear)
    assert read(nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)), 1, 3, 2, 2).workloads == (
        Workload("linear", (12,), 5),
    )


def test_what_only_renames_shapes_is_free() -> None:
    net = nn.Sequential(Conv(3, 4, 1), nn.Identity(), nn.Dropout(0.5), nn.Unflatten(2, (8, 1)), nn.Flatten(2, 3))
    reading = read(net)
    assert (reading.workloads, reading.unknown) == ((CONV,), ())


ACTIVATION_LAYERS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@pytest.mark.parametrize("name", ACTIVATION_LAYERS)
def test_activation_alone_and_fused(name: str) -> None:
    layer = ACTIVATION_LAYERS[name]()
    assert read(layer).workloads == (same("activation", 3, activation=name),)
    fused = Workload("conv", (3,), 4, (8, 8), bias=True, activation=name)
    assert read(nn.Sequential(Conv(3, 4, 1), layer)).workloads == (fused,)


@pytest.mark.parametrize("name", ["relu", "relu6", "hardswish", "hardsigmoid", "silu"])
def test_in_place_activation_is_fused(name: str) -> None:
    fused = Workload("conv", (3,), 4, (8, 8), bias=True, activation=name)
    assert read(nn.Sequential(Conv(3, 4, 1), ACTIVATION_LAYERS[name](inplace=True))).workloads == (fused,)


def test_python_control_flow_is_read_as_it_runs() -> None:
    def compute(net: Net, x: Tensor) -> Tensor:
        while x.shape[-1] > 2:
            x = F.max_pool2d(F.relu(net.conv(x)), 2)
        return x

    def step(size: int) -> tuple[Workload, Workload]:
        conv = Workload("conv", (3,), 3, (size, size), bias=True, activation="relu")
        return conv, same("max_pool", 3, (size, size), kernel=(2, 2), stride=(2, 2))

    assert read(Net(compute, conv=Conv(3, 3, 1))).workloads == (*step(8), *step(4))


def test_macs_of_a_reading_are_those_of_its_workloads() -> None:
    # 8 x 8 pixels, 4 filters over 3 channels, and 4 inputs to 5 outputs.
    net = nn.Sequential(Conv(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    assert read(net).macs == 8 * 8 * 4 * 3 + 4 * 5
