"""Channel groups: which channels must be removed together, and removing them.

`torch-pruning`'s DependencyGraph says which layers share channels (Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023); this module only chooses channels and keeps the bookkeeping by name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from netadapt.network.trace import evaluating, tensors

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are removed together.

    `name` is that of the first layer which produces them, `members` are all layers whose weights have them, in the
    order in which they were defined.
    `granularity` is what a width must be a multiple of for the grouped convolutions among the members.
    """

    name: str
    width: int
    granularity: int
    members: tuple[str, ...]

    def allowed_widths(self, multiple: int) -> tuple[int, ...]:
        """Widths in ascending order: multiples of `multiple` and of the granularity, and the original width.

        More than one channel is left to each group of a grouped convolution: with one, DependencyGraph would take it
        for a depthwise one in the next iteration, and remove its inputs with its outputs.
        """
        step = math.lcm(multiple, self.granularity)
        least = 2 * step if 1 < step == self.granularity else step
        return (*range(least, self.width, step), self.width)


class ChannelSurgeon:
    """Finds and removes channels of one module, in place.

    `example_input` `[N, C, H, W]` is run through the module to see how its layers depend on each other.
    """

    def __init__(self, module: nn.Module, example_input: Tensor) -> None:
        self.module = module
        self._layers = dict(module.named_modules())
        self._names = {id(layer): name for name, layer in self._layers.items()}
        self._order = {name: position for position, name in enumerate(self._layers)}
        with evaluating(module), _gradients_enabled(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._graph = tp.DependencyGraph().build_dependency(
                module,
                example_inputs=example_input.clone(),
                output_transform=lambda outputs: tensors((outputs,)),  # without None and the like
            )
        _take_fixed_reshapes_as_elementwise(self._graph)

    def groups(self) -> list[ChannelGroup]:
        """All channel groups, in the order in which the layers were defined."""
        found = [
            ChannelGroup(self._name(items), len(items[0].idxs), _granularity(items), self._members(items))
            for items in self._graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear])
        ]
        return sorted(found, key=lambda group: self._order[group.name])

    def width(self, name: str) -> int:
        """The current number of channels of group `name`."""
        return _outputs(self._layers[name])

    def part_member(self, name: str) -> str | None:
        """A layer that has only some of the group's channels, so that its width depends on which ones are removed."""
        width = self.width(name)
        for item in self._items(name, list(range(width))):
            layer: str | None = self._names.get(id(item.dep.target.module))
            if layer is not None and len(set(item.root_idxs)) < width:
                return layer
        return None

    def norms(self, name: str) -> Tensor:
        """L2 norm of the filters that produce each channel of the group, `[width]` (paper, section 3.3)."""
        width = self.width(name)
        squares = torch.zeros(width, dtype=torch.float64)
        for item in self._items(name, list(range(width))):
            layer = item.dep.target.module
            if not self._produces(item):
                continue
            filters = layer.weight.detach().transpose(0, 1) if _is_transposed(layer) else layer.weight.detach()
            per_channel = filters.double().flatten(1).square().sum(1)
            squares.index_add_(0, torch.tensor(item.root_idxs), per_channel[torch.tensor(item.idxs)])
        return squares.sqrt()

    def weakest(self, group: ChannelGroup, width: int) -> list[int]:
        """The channels to remove so that the `width` ones of largest L2 norm stay.

        Where a grouped convolution reads or writes the channels, each of its segments loses the same positions. Equal
        norms keep the lower channel.
        """
        segments = self.norms(group.name).reshape(group.granularity, -1).square().sum(0)
        order = torch.argsort(segments, descending=True, stable=True)
        return _in_every_segment(order[width // group.granularity :].tolist(), len(segments), group.granularity)

    def trailing(self, group: ChannelGroup, width: int) -> list[int]:
        """The channels to remove when only shapes matter: the last ones of each segment."""
        length = self.width(group.name) // group.granularity
        return _in_every_segment(list(range(width // group.granularity, length)), length, group.granularity)

    def remove(self, name: str, channels: list[int]) -> None:
        """Remove `channels` of group `name` from every member, in place."""
        if not channels:
            return
        trainable = {path: parameter.requires_grad for path, parameter in self.module.named_parameters()}
        self._items(name, channels).prune()
        for path, parameter in self.module.named_parameters():
            parameter.requires_grad_(trainable.get(path, True))  # pruning makes new parameters

    def silence(self, name: str, channels: list[int]) -> None:
        """Make the layers that read the group blind to `channels`: what removing them must be equal to."""
        for item in self._items(name, channels):
            layer = item.dep.target.module
            if not self._graph.is_in_channel_pruning_fn(item.dep.handler) or _is_depthwise(layer):
                continue
            if isinstance(layer, nn.Linear):
                layer.weight.data[:, item.idxs] = 0
            elif isinstance(layer, nn.ConvTranspose2d):
                layer.weight.data[item.idxs] = 0
            elif isinstance(layer, nn.Conv2d):
                _silence_inputs(layer, item.idxs)

    def _items(self, name: str, channels: list[int]) -> Any:
        layer = self._layers[name]
        prune = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        return self._graph.get_pruning_group(layer, prune, channels)

    def _produces(self, item: Any) -> bool:
        layer = item.dep.target.module
        is_filter_bank = isinstance(layer, (*_CONVOLUTIONS, nn.Linear)) and not _is_depthwise(layer)
        return is_filter_bank and self._graph.is_out_channel_pruning_fn(item.dep.handler)

    def _name(self, items: Any) -> str:
        """The first layer of which every channel is one of the group's, so that the group can be found from it."""
        producers: set[str] = {
            self._names[id(item.dep.target.module)]
            for item in items
            if self._produces(item) and len(item.idxs) == len(items[0].idxs) == _outputs(item.dep.target.module)
        }
        root: str = self._names[id(items[0].dep.target.module)]
        return min(producers or {root}, key=self._order.__getitem__)

    def _members(self, items: Any) -> tuple[str, ...]:
        names = {self._names.get(id(item.dep.target.module)) for item in items}
        return tuple(sorted((name for name in names if name), key=self._order.__getitem__))


def narrow_to_shape(
    module: nn.Module, example_input: Tensor, groups: Mapping[str, ChannelGroup], widths: Mapping[str, int]
) -> None:
    """Narrow `module` in place to `widths`, keeping leading channels: for shapes whose weights come from elsewhere."""
    surgeon = ChannelSurgeon(module, example_input)
    for name, width in widths.items():
        surgeon.remove(name, surgeon.trailing(groups[name], width))


def _take_fixed_reshapes_as_elementwise(graph: Any) -> None:
    """Follow channels one to one through every reshape that is not a flatten of `[N, C, H, W]`.

    DependencyGraph takes any reshape for a flatten and multiplies the channel indices at each; in a channel shuffle
    that grows without bound. Whether one to one is right is what the trial narrowing finds out.
    """
    for node in graph.module2node.values():
        if node.type != tp.ops.OPTYPE.RESHAPE or _is_flatten(node.grad_fn):
            continue
        node.type = tp.ops.OPTYPE.ELEMENTWISE
        for neighbour in (node, *node.inputs, *node.outputs):
            for dependency in neighbour.dependencies:
                if node in (dependency.source, dependency.target):
                    dependency.index_mapping[0] = None


def _is_flatten(grad_fn: Any) -> bool:
    before = tuple(getattr(grad_fn, "_saved_self_sym_sizes", ()))
    after = tuple(grad_fn._input_metadata[0].shape)
    return len(before) == 4 and after == (before[0], math.prod(before[1:]))


def _in_every_segment(positions: list[int], length: int, segments: int) -> list[int]:
    return sorted(segment * length + position for segment in range(segments) for position in positions)


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _CONVOLUTIONS) and layer.groups == layer.out_channels == layer.in_channels > 1


def _outputs(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _is_transposed(layer: nn.Module) -> bool:
    return isinstance(layer, nn.ConvTranspose2d)


def _granularity(items: Any) -> int:
    layers = [item.dep.target.module for item in items]
    return math.lcm(
        *(layer.groups for layer in layers if isinstance(layer, _CONVOLUTIONS) and not _is_depthwise(layer))
    )


def _silence_inputs(layer: nn.Conv2d, channels: list[int]) -> None:
    """Zero the weights by which `layer` reads the input `channels`; `weight` is `[out, in / groups, kh, kw]`."""
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for channel in channels:
        segment, position = divmod(channel, inputs)
        layer.weight.data[segment * outputs : (segment + 1) * outputs, position] = 0


@contextmanager
def _gradients_enabled(module: nn.Module) -> Iterator[None]:
    """DependencyGraph follows gradient functions, which frozen parameters do not have."""
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
