"""Weight files: writing and reading safetensors, and which ones are bundled. No pickle is ever read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.files import write_atomically
from netadapt.zoo.spec import NetworkSpec
from netadapt.zoo.weight_header import METADATA_KEY, require_file, unreadable

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
        ModelError: one is missing, not safetensors, or of another network, or the target cannot be written.

    """
    shapes = _shapes(sources[0])
    for source in sources[1:]:
        if misfits := _misfits(shapes, _shapes(source)):
            raise ModelError(f"{source}: not weights of the network of {sources[0]}: {'; '.join(misfits)}")
    states = [_read(source) for source in sources]
    try:
        mean = {
            name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in states[0].items()
        }
    except RuntimeError as error:
        raise ModelError(f"{sources[0]}: weights of a type that cannot be averaged ({error})") from error
    _write(target, safetensors.torch.save(mean))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the safetensors file ``path`` into ``module``: every tensor, each of the right shape and kind of number.

    Raises:
        ModelError: the file is missing, not safetensors (a pickle, say), does not fit, or has weights that are no
            numbers; the module is then unchanged.

    """
    wanted = module.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in wanted.items()}
    # From the header: a file that does not fit is not read, however large it is.
    if misfits := _misfits(shapes, _shapes(path)):
        raise ModelError(
            f"{path}: these weights do not fit the network: {'; '.join(misfits)}. "
            "Network, width, classes and channels must be those the weights were trained with"
        )
    state = _read(path)
    _require_numbers(path, state, wanted, {name for name, _ in module.named_parameters()})
    module.load_state_dict(state)


def _require_numbers(path: Path, state: dict[str, Tensor], wanted: Mapping[str, Tensor], parameters: set[str]) -> None:
    """Check that the values can be those of the module's tensors; buffers may be infinite, as in a mask."""
    kinds = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in state.items()
        if tensor.is_floating_point() != wanted[name].is_floating_point() or tensor.is_complex()
    ]
    if kinds:
        raise ModelError(f"{path}: {len(kinds)} tensors of another kind of number than in the network: {_first(kinds)}")
    # As the module keeps them: what is finite in float64 may not be in float32.
    kept = {name: tensor.to(wanted[name].dtype) for name, tensor in state.items() if tensor.is_floating_point()}
    broken = [
        name
        for name, tensor in kept.items()
        if tensor.isnan().any() or (name in parameters and not tensor.isfinite().all())
    ]
    if broken:
        raise ModelError(
            f"{path}: weights that are NaN or infinite in {len(broken)} tensors: {_first(broken)}; the training that"
            " made them diverged"
        )


def _shapes(path: Path) -> dict[str, list[int]]:
    """The shape of each tensor, as the header says."""
    with _explained(path), safetensors.safe_open(path, framework="pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict


def _read(path: Path) -> dict[str, Tensor]:
    with _explained(path):
        return safetensors.torch.load_file(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading a weight file raises into our error."""
    try:
        require_file(path)
        yield
    # Types of numbers that torch does not have raise one of several of Python's own.
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be written ({error})") from error


def _misfits(wanted: Mapping[str, list[int]], found: Mapping[str, list[int]]) -> list[str]:
    shapes = [
        f"{name} {found[name]} (the network has {shape})"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": shapes,
    }
    return [f"{len(names)} {fault}: {_first(names)}" for fault, names in faults.items() if names]


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
