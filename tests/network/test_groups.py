"""Channel groups worked out by hand, which channels stay, and what the narrowed network computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from small_networks import Conv, Net, analysed, head, image
from torch import Tensor, nn

from netadapt.network.groups import ChannelGroup, ChannelSurgeon
from netadapt.network.network import AdaptableNetwork, analyse

Networks = Callable[[str], AdaptableNetwork]


def found(network: AdaptableNetwork) -> set[tuple[int, int, frozenset[str]]]:
    """Width, granularity and members of each group."""
    return {(group.width, group.granularity, frozenset(group.members)) for group in network.groups.values()}


def members(*names: str) -> frozenset[str]:
    return frozenset(names)


def set_filters(layer: nn.Module, sizes: Sequence[float]) -> None:
    """Give each filter the L2 norm of `sizes`, with all its weights equal."""
    for index, size in enumerate(sizes):
        layer.weight.data[index] = size / layer.weight[index].numel() ** 0.5


def test_groups_of_a_residual_network(small_network: Networks) -> None:
    network = small_network("residual")
    assert found(network) == {(8, 1, members("stem", "a", "b", "head.2")), (6, 1, members("a", "b"))}
    assert network.widths == {"stem": 8, "a": 6}
    assert [left.group for left in network.left_out] == ["head.2"]


def test_groups_of_a_concat_network(small_network: Networks) -> None:
    assert found(small_network("concatenated")) == {
        (4, 1, members("squeeze", "small", "large")),
        (6, 1, members("small", "last")),
        (2, 1, members("large", "last")),
        (7, 1, members("last", "head.2")),
    }


def test_groups_of_a_depthwise_network(small_network: Networks) -> None:
    assert found(small_network("depthwise")) == {(6, 1, members("0", "1", "3", "5")), (4, 1, members("5", "6.2"))}


def test_groups_of_a_grouped_convolution(small_network: Networks) -> None:
    network = small_network("grouped")
    assert found(network) == {(8, 2, members("0", "2")), (12, 2, members("2", "4")), (6, 1, members("4", "6.2"))}


def test_groups_of_squeeze_excite(small_network: Networks) -> None:
    assert found(small_network("squeeze_excite")) == {
        (8, 1, members("stem", "reduce", "expand", "last")),
        (4, 1, members("reduce", "expand")),
        (6, 1, members("last", "head.2")),
    }


def test_groups_of_a_flattened_map_and_two_linear_layers(small_network: Networks) -> None:
    assert found(small_network("flattened")) == {(4, 1, members("0", "4")), (6, 1, members("4", "6"))}


def test_a_layer_that_runs_twice_is_one_group() -> None:
    net = Net(
        lambda net, x: net.head(net.twice(torch.relu(net.twice(net.stem(x))))),
        stem=Conv(3, 8, 1),
        twice=Conv(8, 8, 1),
        head=head(8),
    )
    assert found(analysed(net)) == {(8, 1, members("stem", "twice", "head.2"))}


def test_allowed_widths() -> None:
    assert ChannelGroup("g", 6, 1, ()).allowed_widths(1) == (1, 2, 3, 4, 5, 6)
    assert ChannelGroup("g", 20, 1, ()).allowed_widths(8) == (8, 16, 20)
    assert ChannelGroup("g", 6, 1, ()).allowed_widths(8) == (6,)
    assert ChannelGroup("g", 16, 1, ()).allowed_widths(16) == (16,)
    # In groups of a convolution: a multiple of both, and never one channel a group.
    assert ChannelGroup("g", 12, 2, ()).allowed_widths(1) == (4, 6, 8, 10, 12)
    assert ChannelGroup("g", 24, 2, ()).allowed_widths(8) == (8, 16, 24)
    assert ChannelGroup("g", 36, 6, ()).allowed_widths(4) == (12, 24, 36)
    assert ChannelGroup("g", 8, 4, ()).allowed_widths(1) == (8,)


def test_channels_of_largest_norm_stay_in_their_order() -> None:
    net = nn.Sequential(Conv(3, 4, 1), head(4))
    set_filters(net[0], [2, 1, 3, 4])
    network = analyse("net", net, image())
    narrowed = network.narrowed(net, {"0": 2})
    assert torch.equal(narrowed[0].weight, net[0].weight[[2, 3]])
    assert torch.equal(narrowed[0].bias, net[0].bias[[2, 3]])
    assert torch.equal(narrowed[1][2].weight, net[1][2].weight[:, [2, 3]])


def test_equal_norms_keep_the_lower_channel() -> None:
    net = nn.Sequential(Conv(3, 5, 1), head(5))
    set_filters(net[0], [1, 2, 2, 1, 2])
    network = analyse("net", net, image())
    for width, kept in ((4, [0, 1, 2, 4]), (2, [1, 2]), (1, [1])):
        assert torch.equal(network.narrowed(net, {"0": width})[0].weight, net[0].weight[kept])


def test_norm_of_a_group_is_that_of_all_filters_which_produce_it(small_network: Networks) -> None:
    network = small_network("residual")
    net = network.narrowed(network.module, {})
    set_filters(net.stem, [3, 0, 1, 2, 1, 1, 1, 1])
    set_filters(net.b, [0, 4, 1, 1, 1, 1, 1, 0.5])
    norms = ChannelSurgeon(net, image()).norms("stem")
    squares = torch.tensor([9, 16, 2, 5, 2, 2, 2, 1.25], dtype=torch.float64)
    torch.testing.assert_close(norms.square(), squares, rtol=1e-5, atol=1e-5)
    narrowed = network.narrowed(net, {"stem": 3})
    assert torch.equal(narrowed.stem.weight, net.stem.weight[[0, 1, 3]])
    assert torch.equal(narrowed.b.weight, net.b.weight[[0, 1, 3]])
    assert torch.equal(narrowed.a.weight, net.a.weight[:, [0, 1, 3]])


def test_depthwise_filters_do_not_count_for_the_norm() -> None:
    net = nn.Sequential(Conv(3, 3, 1), Conv(3, 3, 3, groups=3), head(3))
    set_filters(net[0], [1, 2, 3])
    set_filters(net[1], [9, 5, 1])
    torch.testing.assert_close(ChannelSurgeon(net, image()).norms("0"), torch.tensor([1.0, 2.0, 3.0]).double())


def test_each_group_of_a_convolution_loses_the_same_positions() -> None:
    net = nn.Sequential(Conv(3, 6, 1), Conv(6, 4, 1, groups=2), head(4))
    # Positions 0, 1 and 2 have 1 + 16, 4 + 4 and 9 + 0.
    set_filters(net[0], [1, 2, 3, 4, 2, 0])
    narrowed = analyse("net", net, image()).narrowed(net, {"0": 4})
    assert torch.equal(narrowed[0].weight, net[0].weight[[0, 2, 3, 5]])
    assert torch.equal(narrowed[1].weight, net[1].weight[:, [0, 2]])
    assert narrowed[1].groups == 2


def test_flattened_channels_take_all_their_pixels_with_them() -> None:
    net = nn.Sequential(Conv(3, 3, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    set_filters(net[0], [2, 1, 3])
    narrowed = analyse("net", net, image()).narrowed(net, {"0": 2})
    # Channel 1 has features 4 to 7.
    assert torch.equal(narrowed[3].weight, net[3].weight[:, [0, 1, 2, 3, 8, 9, 10, 11]])


def blind(layer: nn.Module, kept: list[int], pixels: int = 1) -> None:
    """Make `layer` ignore all of its input channels but `kept`; a channel has `pixels` features."""
    features = [channel * pixels + pixel for channel in kept for pixel in range(pixels)]
    weight = torch.zeros_like(layer.weight)
    weight[:, features] = layer.weight.data[:, features]
    layer.weight.data = weight


def strongest(*layers: nn.Module, count: int) -> list[int]:
    squares = sum(layer.weight.detach().double().flatten(1).square().sum(1) for layer in layers)
    return sorted(torch.topk(squares, count).indices.tolist())


@pytest.mark.parametrize(
    ("name", "group", "count", "producers", "readers", "pixels"),
    [
        ("residual", "stem", 5, ["stem", "b"], ["a", "head.2"], 1),
        ("residual", "a", 2, ["a"], ["b"], 1),
        ("concatenated", "squeeze", 1, ["squeeze"], ["small", "large"], 1),
        ("depthwise", "0", 4, ["0"], ["5"], 1),
        ("squeeze_excite", "stem", 3, ["stem", "expand"], ["reduce", "last"], 1),
        ("flattened", "0", 2, ["0"], ["4"], 4),
        ("flattened", "4", 5, ["4"], ["6"], 1),
    ],
)
def test_narrowed_network_computes_the_original_blind_to_the_removed_channels(
    small_network: Networks,
    name: str,
    group: str,
    count: int,
    producers: list[str],
    readers: list[str],
    pixels: int,
) -> None:
    network = small_network(name)
    narrowed = network.narrowed(network.module, {group: count})
    original = network.narrowed(network.module, {})
    layers = dict(original.named_modules())
    kept = strongest(*(layers[producer] for producer in producers), count=count)
    for reader in readers:
        blind(layers[reader], kept, pixels)
    other = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(narrowed(other), original(other), rtol=1e-4, atol=1e-4)


def test_concat_removes_the_channels_at_their_place(small_network: Networks) -> None:
    network = small_network("concatenated")
    original = network.narrowed(network.module, {})
    narrowed = network.narrowed(network.module, {"small": 4, "large": 1})
    kept = strongest(original.small, count=4) + [6 + channel for channel in strongest(original.large, count=1)]
    assert torch.equal(narrowed.last.weight, original.last.weight[:, kept])


def test_full_widths_change_nothing(small_network: Networks) -> None:
    network = small_network("grouped")
    for module in (network.narrowed(network.module, network.widths), network.shaped(network.widths)):
        assert module is not network.module
        for value, original in zip(module.parameters(), network.module.parameters(), strict=True):
            assert torch.equal(value, original)


def test_narrowing_leaves_the_given_module_alone(small_network: Networks) -> None:
    network = small_network("depthwise")
    module = network.narrowed(network.module, {}).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    narrowed = network.narrowed(module, {"0": 2})
    assert module.training
    assert narrowed.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert narrowed[1].num_batches_tracked == 0


def test_a_transposed_convolution_reads_a_group() -> None:
    net = nn.Sequential(Conv(3, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2), Conv(4, 5, 1), head(5))
    network = analysed(net)
    narrowed = network.narrowed(net, {"0": 2})
    assert torch.equal(narrowed[2].weight, net[2].weight[strongest(net[0], count=2)])


def shuffled(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    batch, channels, height, width = y.shape
    y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
    return net.rest(y)


def chunked(net: Net, x: Tensor) -> Tensor:
    left, right = net.first(x).chunk(2, 1)
    return net.rest(torch.cat([right, left], 1))


def sliced(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.rest(torch.cat([y[:, ::2], y[:, 1::2]], 1))


def reshaped_for_good(channels: int) -> Callable[[Net, Tensor], Tensor]:
    return lambda net, x: net.rest(net.first(x).reshape(-1, channels, 4, 16))


def normalised(net: Net, x: Tensor) -> Tensor:
    return net.rest(torch.relu(net.norm(net.first(x))))


def competing(net: Net, x: Tensor) -> Tensor:
    return net.rest(torch.softmax(net.first(x), 1))


def rest(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, 6, 1), nn.ReLU(), head(6))


@pytest.mark.parametrize("channels", [2, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("compute", [shuffled, chunked, sliced], ids=lambda compute: compute.__name__)
def test_rearranged_channels_are_left_out(compute: Callable[[Net, Tensor], Tensor], channels: int) -> None:
    check_first_is_left_out(Net(compute, first=Conv(3, channels, 1), rest=rest(channels)))


@pytest.mark.parametrize(
    "net",
    [
        Net(reshaped_for_good(8), first=Conv(3, 8, 1), rest=rest(8)),
        Net(normalised, first=Conv(3, 8, 1), norm=nn.GroupNorm(2, 8), rest=rest(8)),
        Net(normalised, first=Conv(3, 8, 1), norm=nn.GroupNorm(1, 8), rest=rest(8)),
        Net(normalised, first=Conv(3, 8, 1), norm=nn.LayerNorm([8, 8, 8]), rest=rest(8)),
        Net(competing, first=Conv(3, 8, 1), rest=rest(8)),
        Net(lambda net, x: net.rest(torch.cat([x, net.first(x)], 1)), first=Conv(3, 8, 1), rest=rest(11)),
        Net(lambda net, x: net.rest(net.first(x)), first=Conv(3, 1, 1), rest=rest(1)),
        Net(lambda net, x: (net.rest(net.first(x)), net.first(x)), first=Conv(3, 8, 1), rest=rest(8)),
    ],
    ids=["reshape", "group-norm", "one-group", "layer-norm", "softmax", "concat-input", "one-channel", "output"],
)
def test_what_cannot_be_narrowed_is_left_out(net: Net) -> None:
    check_first_is_left_out(net)


def check_first_is_left_out(net: Net) -> None:
    """`first` is left out with a reason; the 6 channels of `rest` are adaptable and narrowed right."""
    network = analysed(net)
    assert set(network.groups) == {"rest.0"}
    reasons = {left.group: left.reason for left in network.left_out}
    assert set(reasons) == {"first", "rest.2.2"}
    assert all(reasons.values())
    narrowed = network.narrowed(net, {"rest.0": 2})
    kept = strongest(net.rest[0], count=2)
    assert torch.equal(narrowed.rest[0].weight, net.rest[0].weight[kept])
    assert torch.equal(narrowed.rest[2][2].weight, net.rest[2][2].weight[:, kept])


def test_reasons_say_what_is_wrong() -> None:
    output = analysed(nn.Sequential(Conv(3, 4, 1)))
    assert [left.reason for left in output.left_out] == ["its channels are part of the network's output"]
    single = analysed(nn.Sequential(Conv(3, 1, 1), head(1)))
    assert single.left_out[0].reason == "it has 1 channel, which leaves none to remove"
    shuffle = analysed(Net(shuffled, first=Conv(3, 8, 1), rest=rest(8)))
    assert "does not compute what the original computes" in shuffle.left_out[0].reason
    fixed = analysed(Net(reshaped_for_good(8), first=Conv(3, 8, 1), rest=rest(8)))
    assert "the narrowed network fails: RuntimeError: shape '[-1, 8, 4, 16]' is invalid" in fixed.left_out[0].reason


def test_layers_that_share_a_weight_are_left_out() -> None:
    net = Net(
        lambda net, x: net.head(net.b(torch.relu(net.a(net.stem(x))))),
        stem=Conv(3, 8, 1),
        a=Conv(8, 8, 1),
        b=Conv(8, 8, 1),
        head=nn.Sequential(Conv(8, 6, 1), head(6)),
    )
    net.b.weight = net.a.weight
    network = analyse("tied", net, image())
    assert set(network.groups) == {"head.0"}
    assert {left.group for left in network.left_out} == {"stem", "a", "b", "head.1.2"}


def test_a_group_of_which_a_layer_has_only_a_part_is_left_out() -> None:
    # How many of 3 removed channels are `a`'s and how many `b`'s is not known from their number.
    net = Net(
        lambda net, x: net.rest(torch.cat([net.a(x), net.b(x)], 1) + net.first(x)),
        first=Conv(3, 8, 1),
        a=Conv(3, 4, 1),
        b=Conv(3, 4, 1),
        rest=rest(8),
    )
    check_first_is_left_out(net)
    assert analysed(net).left_out[0].reason == "a has only some of its channels"
