"""What a user would do without NetAdapt: prune every layer by the same share, by torch-pruning's own pruner."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
import torch_pruning as tp
from torch import nn

from netadapt.network.network import AdaptableNetwork, observe
from netadapt.zoo.weight_files import save_weights


def prune_uniformly(network: AdaptableNetwork, ratio: float, round_to: int, target: Path) -> dict[str, int]:
    """Remove the share `ratio` of the channels of every group, those of least L2 norm; write the weights to `target`.

    Returns:
        The widths that are left, each a multiple of `round_to`.

    """
    module = copy.deepcopy(network.module)
    classifier = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about options of which it recommends others
        tp.pruner.MagnitudePruner(
            module,
            network.example_input,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            round_to=round_to,
            ignored_layers=classifier,
        ).step()
    module.zero_grad(set_to_none=True)
    widths = _widths(network, module)
    save_weights(module, target, {"widths": widths})
    return widths


def _widths(network: AdaptableNetwork, module: nn.Module) -> dict[str, int]:
    """Widths of the pruned module, checked against what the plan says of a network of these widths."""
    layers = dict(module.named_modules())
    widths = {group: _outputs(layers[group]) for group in network.groups}
    seen = observe(module.eval(), network.example_input, widths)
    if seen.workloads != network.plan.at(widths):
        raise RuntimeError(f"torch-pruning {tp.__version__} narrowed more than the channel groups: {widths}")
    return widths


def _outputs(layer: nn.Module) -> int:
    weight = layer.weight
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"{type(layer).__name__} has no weights to count channels by")
    return int(weight.shape[0])
