"""Weight files: writing and reading safetensors, and which ones are bundled. No pickle is ever read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.files import write_atomically
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.weight_header import METADATA_KEY, unreadable

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class BundledWeights:
    """Trained weights that come with the package; a model card (.md) lies beside the file."""

    network: NetworkSpec
    data: str
    classes: int
    channels: int

    @property
    def path(self) -> Path:
        """The safetensors file."""
        name = f"{self.network.name}-{self.network.width:g}-{self.network.size}-{self.data}.safetensors"
        return Path(__file__).with_name("weights") / name


BUNDLED = (BundledWeights(NetworkSpec("mobilenet_v1", 0.5, 32), "fashion-mnist", classes=10, channels=1),)

# The mini set is part of the full one, and its hold-out and test images are not in the full training part.
_TRAINED_ON_SAME = {"fashion-mnist-mini": "fashion-mnist"}


def find_bundled(network: NetworkSpec, data: str) -> BundledWeights | None:
    """Return the bundled weights of ``network`` for data set ``data``, if there are some."""
    data = _TRAINED_ON_SAME.get(data, data)
    return next((bundled for bundled in BUNDLED if bundled.network == network and bundled.data == data), None)


def save_weights(module: nn.Module, path: Path, facts: Mapping[str, object]) -> None:
    """Write the module's state to ``path`` in one atomic step, with ``facts`` as metadata; equal input, equal bytes.

    Raises:
        ModelError: the file cannot be written (a full disk, say); one that was there is left as it was.

    """
    state = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    content = safetensors.torch.save(state, {METADATA_KEY: json.dumps(facts, sort_keys=True)})
    _write(path, content)


def average_weights(sources: Sequence[Path], target: Path) -> None:
    """Write the mean of several files of one network's weights to `target`; counters are those of the first.

    Raises:
        ModelError: one is missing or not safetensors, or the target cannot be written.

    """
    states = [_read(source) for source in sources]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    _write(target, safetensors.torch.save(mean))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the safetensors file ``path`` into ``module``: every tensor, each of the right shape.

    Raises:
        ModelError: the file is missing, not safetensors (a pickle, say), or does not fit; the module is then unchanged.

    """
    state = _read(path)
    if misfits := _misfits(module.state_dict(), state):
        raise ModelError(
            f"{path}: these weights do not fit the network: {'; '.join(misfits)}. "
            "Network, width, classes and channels must be those the weights were trained with"
        )
    module.load_state_dict(state)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be written ({error})") from error


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{name} {list(found[name].shape)} (the network has {list(tensor.shape)})"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": shapes,
    }
    return [f"{len(names)} {fault}: {_first(names)}" for fault, names in faults.items() if names]


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
