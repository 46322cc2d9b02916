"""Make sure that a network can be worked with: it runs, and what it computes can be compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from netadapt.errors import ModelError, reason_of
from netadapt.network.trace import evaluating, tensors

#: Of the largest output.
_TOLERANCE = 1e-4


def require_sound(name: str, module: nn.Module, example_input: Tensor) -> None:
    """Run a network twice on an example input `[N, C, H, W]`, in evaluation mode.

    Raises:
        ModelError: a weight is NaN or infinite, the network fails, returns no tensor or NaN, or does not give the same
            twice.

    """
    _require_finite_weights(name, module)
    first, second = _outputs(name, module, example_input), _outputs(name, module, example_input)
    if not first:
        raise ModelError(f"{name} returns no tensor; its output has to be one, or a list, tuple or dict of tensors")
    if any(output.is_floating_point() and output.isnan().any() for output in first):
        raise ModelError(f"{name} is not sound: its weights are finite, but its output on the example input has NaN")
    if not _are_equal(first, second):
        raise ModelError(
            f"{name} is not deterministic: run twice on the same input in evaluation mode, its outputs differ (dropout "
            "that is always on, random numbers, or a state that changes with each run?)"
        )


def _require_finite_weights(name: str, module: nn.Module) -> None:
    # Buffers may be infinite on purpose, as masks are.
    bad = [(key, ~parameter.detach().isfinite()) for key, parameter in module.named_parameters() if _is_made(parameter)]
    bad += [(key, buffer.isnan()) for key, buffer in module.named_buffers() if _is_made(buffer)]
    faults = [(key, int(places.sum()), places.numel()) for key, places in bad if places.any()]
    if faults:
        key, count, of = faults[0]
        more = f", and {len(faults) - 1} more tensors have some" if len(faults) > 1 else ""
        raise ModelError(
            f"{name}: {count:,} of {of:,} values of {key} are NaN or infinite{more}; the weights are damaged, or their "
            "training diverged"
        )


def _is_made(tensor: Tensor) -> bool:
    """Whether a tensor has values; parameters of lazy layers get theirs when the network is run."""
    return not isinstance(tensor, UninitializedParameter | UninitializedBuffer) and not tensor.is_meta


def _outputs(name: str, module: nn.Module, example_input: Tensor) -> list[Tensor]:
    try:
        # Not inference mode: parameters that a lazy layer makes now must be trainable.
        with evaluating(module), torch.no_grad():
            return [output.clone() for output in tensors((module(example_input.clone()),))]
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        shape = list(example_input.shape)
        raise ModelError(f"{name} cannot be run on an input of shape {shape}: {reason_of(error)}") from error


def _are_equal(first: list[Tensor], second: list[Tensor]) -> bool:
    if [output.shape for output in first] != [output.shape for output in second]:
        return False
    return all(_is_close(a, b) for a, b in zip(first, second, strict=True))


def _is_close(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    # Several threads may add in another order, which changes the last digits.
    return torch.allclose(first, second, rtol=0.0, atol=_TOLERANCE * float(first.abs().nan_to_num(posinf=1.0).max()))
