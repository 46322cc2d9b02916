"""Fine-tuning and evaluation on one CPU core or a GPU: images in memory, augmented a whole batch at a time.

Nothing here changes the number of threads or the global random state; callers choose the former.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from netadapt.errors import NonFiniteLossError, TaskError
from netadapt.train.batches import Augmentation, Normalisation, augment, random_batches, take
from netadapt.train.checks import Precision, require_numbers, require_precision
from netadapt.train.data.types import Dataset, Split
from netadapt.train.device import CPU
from netadapt.train.memory import keep_freed_memory
from netadapt.train.task import Evaluation, Task

Schedule = Literal["cosine", "onecycle"]
EVALUATION_BATCH = 100  # images
_CACHED_PIXELS = EVALUATION_BATCH * 32 * 32  # of a batch whose activations stay in the processor's cache
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_WARM_UP_SHARE = 0.15  # of all steps, schedule "onecycle"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train: stochastic gradient descent with Nesterov momentum.

    ``lr`` is the highest learning rate. Schedule ``cosine`` falls from it to 0 (fine-tuning); ``onecycle`` first warms
    up to it (training from scratch). ``weight_decay`` spares biases and normalisation. With ``precision`` "bfloat16"
    convolutions and linear layers compute in that and keep weights of float32: faster, and with smaller activations,
    where the processor has instructions for it and layers are large.
    """

    lr: float
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Augmentation = field(default_factory=Augmentation)
    schedule: Schedule = "cosine"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check precision and numbers.

        Raises:
            UnknownNameError: there is no such precision.
            OptionError: a number is out of range.

        """
        require_precision(self.precision)
        require_numbers(self.lr, self.batch_size, self.weight_decay)

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of ``step`` (0 is the first) of ``steps``."""
        warm_up = int(_WARM_UP_SHARE * steps) if self.schedule == "onecycle" else 0
        if step < warm_up:
            return self.lr * (step + 1) / (warm_up + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def fine_tune(
    module: nn.Module,
    task: Task,
    dataset: Dataset,
    *,
    steps: int,
    options: TrainingOptions,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
    device: str = CPU,
) -> float:
    """Train ``module`` in place on ``dataset.train`` for ``steps`` batches and return the mean loss.

    With one thread the result is a function of weights, data, options and seed alone. ``on_step(steps_done, loss)``
    runs after every step. The module is left in the mode (train or eval) and on the device it came in; it is trained on
    ``device``, with the same batches wherever that is.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite; the weights are those before that step.

    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(seed)
    normalise = Normalisation.of(dataset, device)
    total = 0.0
    with _on(module, device), _training(module, seed, device):
        optimiser = _optimiser(module, options)
        batches = random_batches(dataset.train, options.batch_size, steps, generator)
        for step, (pixels, targets) in enumerate(batches):
            images = normalise(augment(pixels, options.augmentation, generator))
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate(step, steps)
            with _computing_in(options.precision, device):
                loss = task.loss(module, images, targets.to(device))
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"the loss became {value} at step {step + 1} of {steps} (learning rate {options.lr:g}); "
                    "lower the learning rate or check the data"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += value
            if on_step is not None:
                on_step(step + 1, value)
    return total / max(steps, 1)


def evaluate(
    module: nn.Module,
    task: Task,
    split: Split,
    dataset: Dataset,
    batch_size: int | None = None,
    device: str = CPU,
) -> Evaluation:
    """Return score and loss of ``module`` on ``split``, normalised as ``dataset`` is; the module stays as it came.

    Raises:
        TaskError: the task tells of single images, but not of as many as there are.

    """
    normalise = Normalisation.of(dataset, device)
    batch_size = batch_size or _evaluation_batch(split, device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(split), batch_size):
            pixels, targets = take(split, slice(start, start + batch_size))
            yield normalise(pixels), targets.to(device)

    was_training = module.training
    module.eval()
    try:
        with _on(module, device), torch.inference_mode():
            evaluation = task.evaluate(module, batches())
    finally:
        module.train(was_training)
    _check_images(evaluation, len(split))
    return evaluation


def _check_images(evaluation: Evaluation, count: int) -> None:
    """Two networks are compared image by image: one result for each, not for each object or pixel in it."""
    if evaluation.images is None:
        return
    told = [tuple(values.shape) for values in (evaluation.images.scores, evaluation.images.losses)]
    if told != [(count,)] * 2:
        raise TaskError(
            f"the task gave scores of shape {told[0]} and losses of shape {told[1]} for {count} images; "
            f"Evaluation.images has one of each for every image, ({count},), or is None"
        )


def refresh_statistics(
    module: nn.Module, dataset: Dataset, *, batches: int, options: TrainingOptions, seed: int, device: str = CPU
) -> None:
    """Take batch normalisation's running statistics anew from ``batches`` of ``dataset.train``, in place.

    Removing channels changes what the layers after them see; with the statistics of before, most of the accuracy that
    a narrowed network seems to lose is lost for that alone (Li et al., "EagleEye", ECCV 2020). Weights stay as they
    are; a network without batch normalisation stays wholly as it is.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BATCH_NORMS) and layer.track_running_stats]
    if not norms:
        return
    generator = torch.Generator().manual_seed(seed)
    normalise = Normalisation.of(dataset, device)
    momenta = [layer.momentum for layer in norms]
    was_training = module.training
    module.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    try:
        with _on(module, device), torch.no_grad():
            for pixels, _ in random_batches(dataset.train, options.batch_size, batches, generator):
                module(normalise(augment(pixels, options.augmentation, generator)))
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        module.train(was_training)


def _evaluation_batch(split: Split, device: str) -> int:
    """How many images at a time are fastest: on a CPU 1.7x the speed of 500 at 32 x 32, 2x that of 100 at 224 x 224."""
    height, width = split.size
    return EVALUATION_BATCH if device != CPU else max(2, min(EVALUATION_BATCH, _CACHED_PIXELS // (height * width)))


@contextmanager
def _on(module: nn.Module, device: str) -> Iterator[None]:
    """Have ``module`` on ``device``, and then back where it came from."""
    home = next((parameter.device for parameter in module.parameters()), torch.device(CPU))
    moves = home != torch.device(device)
    if moves:
        module.to(device)
    try:
        yield
    finally:
        if moves:
            module.to(home)


def _computing_in(precision: Precision, device: str) -> AbstractContextManager[object]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@contextmanager
def _training(module: nn.Module, seed: int, device: str) -> Iterator[None]:
    """Put ``module`` in train mode and channels-last layout, with dropout drawing from ``seed`` alone."""
    was_training = module.training
    module.train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
            torch.manual_seed(seed)
            yield
    finally:
        # Back to the default layout: writers of weight files accept no other.
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.train(was_training)


def _optimiser(module: nn.Module, options: TrainingOptions) -> torch.optim.SGD:
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)
