"""Whether a classifier and a data set fit: what the one gives must be what the other names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netadapt.errors import DataError
from netadapt.train.data.types import Dataset
from netadapt.wording import counted


def require_fit(name: str, module: nn.Module, example_input: Tensor, dataset: Dataset) -> None:
    """Check that the classifier ``module`` takes the data set's images and has one output for each of its classes.

    It runs once on ``example_input`` [1, C, H, W], in eval mode, and is left as it was.

    Raises:
        DataError: channels, outputs, classes or labels do not fit; says which.

    """
    require_channels(example_input, dataset)
    outputs = _outputs(name, module, example_input)
    classes = len(dataset.classes)
    if classes and outputs != classes:
        raise DataError(
            f"{name} has {outputs} outputs, but {dataset.name} has {classes} classes ({_listed(dataset.classes)}); "
            "give a network with one output for each class, in this order"
        )
    highest = max(int(part.labels.max()) for part in (dataset.train, dataset.holdout, dataset.test))
    if highest >= outputs:
        raise DataError(f"{dataset.name} has the label {highest}, but {name} has only {outputs} outputs")


def require_channels(example_input: Tensor, dataset: Dataset) -> None:
    """Check that the data set's images have the channels of ``example_input`` [N, C, H, W].

    Raises:
        DataError: they have not.

    """
    if dataset.channels != example_input.shape[1]:
        raise DataError(
            f"{dataset.name} has {counted(dataset.channels, 'channel')}, the example input {example_input.shape[1]}"
        )


def _outputs(name: str, module: nn.Module, example_input: Tensor) -> int:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            result = module(example_input.clone())
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"{name} fails on its example input {list(example_input.shape)}: {error}") from error
    finally:
        module.train(was_training)
    if not isinstance(result, Tensor):
        raise DataError(f"{name} gives a {type(result).__name__}; a classifier gives one tensor [N, classes]")
    if result.ndim != 2:
        raise DataError(f"{name} gives {list(result.shape)}; a classifier gives [N, classes]")
    return result.shape[1]


def _listed(classes: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(classes[:most]) + (", ..." if len(classes) > most else "")
