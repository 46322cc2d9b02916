from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from netadapt.errors import NonFiniteLossError, TaskError, UnknownNameError
from netadapt.train import Classification, Dataset, Evaluation, Split, TrainingOptions, evaluate, fine_tune
from netadapt.train.task import Batches, ImageResults

OPTIONS = TrainingOptions(lr=0.05, batch_size=8)
TASK = Classification()


def small_network() -> nn.Sequential:
    """Draws its weights and has dropout, whose randomness must come from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4, 2),
        )


def test_a_network_learns_what_can_be_learnt(dataset: Dataset) -> None:
    network = small_network().eval()
    losses: list[tuple[int, float]] = []
    mean = fine_tune(
        network, TASK, dataset, steps=30, options=OPTIONS, seed=0, on_step=lambda *step: losses.append(step)
    )
    assert [step for step, _ in losses] == list(range(1, 31))
    assert mean == pytest.approx(sum(loss for _, loss in losses) / 30)
    assert losses[-1][1] < losses[0][1]
    assert evaluate(network, TASK, dataset.test, dataset).score == 1.0
    assert not network.training


def test_training_is_a_function_of_weights_data_and_seed(dataset: Dataset) -> None:
    results = []
    for seed in (1, 1, 2):
        network = small_network()
        before = torch.get_rng_state()
        fine_tune(network, TASK, dataset, steps=4, options=OPTIONS, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(network.state_dict())
        torch.rand(7)  # moves the global state, which must not matter
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(results[0]["6.weight"], results[2]["6.weight"])


def test_bfloat16_is_computed_in_and_float32_is_kept(dataset: Dataset) -> None:
    computed_in: set[torch.dtype] = set()

    class Watched(Classification):
        def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            logits = module(images)
            computed_in.add(logits.dtype)
            return functional.cross_entropy(logits, targets)

    network = small_network()
    options = replace(OPTIONS, precision="bfloat16")
    fine_tune(network, Watched(), dataset, steps=30, options=options, seed=0)
    assert computed_in == {torch.bfloat16}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert evaluate(network, TASK, dataset.test, dataset).score == 1.0


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown precision 'float16'; choose one of: bfloat16, float32"):
        TrainingOptions(lr=0.1, precision="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "largest"), [(32, 100), (48, 44), (224, 2), (8, 100)])
def test_large_images_are_evaluated_few_at_a_time(dataset: Dataset, side: int, largest: int) -> None:
    sizes: list[int] = []

    class Counting(Classification):
        def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
            sizes.extend(len(images) for images, _ in batches)
            return Evaluation(0.0, 0.0, sum(sizes))

    split = Split(np.zeros((103, 1, side, side), np.uint8), np.zeros(103, np.int64))
    assert evaluate(nn.Identity(), Counting(), split, dataset).count == 103
    assert max(sizes) == largest


def test_a_task_tells_of_each_image_or_of_none(dataset: Dataset) -> None:
    class OfPixels(Classification):
        def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
            results = ImageResults(torch.zeros(4, 9), torch.zeros(4, 9))
            return Evaluation(0.0, 0.0, 4, results)

    four = Split(np.zeros((4, 1, 3, 3), np.uint8), np.zeros(4, np.int64))
    with pytest.raises(TaskError, match=r"scores of shape \(4, 9\) and losses of shape \(4, 9\) for 4 images"):
        evaluate(small_network(), OfPixels(), four, dataset)


def test_weights_stay_in_the_default_layout(dataset: Dataset) -> None:
    network = small_network()
    fine_tune(network, TASK, dataset, steps=1, options=OPTIONS, seed=0)
    assert all(parameter.is_contiguous() for parameter in network.parameters())


class ExplodesAt:
    """A task whose loss is no number at the given step."""

    def __init__(self, step: int) -> None:
        self.steps_left = step

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        self.steps_left -= 1
        loss = TASK.loss(module, images, targets)
        return loss if self.steps_left else loss * math.nan

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        return TASK.evaluate(module, batches)


def test_a_loss_that_is_no_number_stops_at_once(dataset: Dataset) -> None:
    network = small_network()
    steps: list[int] = []
    with pytest.raises(NonFiniteLossError, match=r"became nan at step 3 of 10 \(learning rate 0.05\)"):
        fine_tune(
            network,
            ExplodesAt(3),
            dataset,
            steps=10,
            options=OPTIONS,
            seed=0,
            on_step=lambda step, _: steps.append(step),
        )
    assert steps == [1, 2]
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_weight_decay_spares_biases_and_normalisation(dataset: Dataset) -> None:
    class Nothing(Classification):
        def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            return 0.0 * super().loss(module, images, targets)

    network = small_network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    options = TrainingOptions(lr=0.1, batch_size=8, momentum=0.0, weight_decay=0.5)
    fine_tune(network, Nothing(), dataset, steps=1, options=options, seed=0)
    for name, parameter in network.named_parameters():
        shrink = 1 - 0.1 * 0.5 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * shrink)


def test_frozen_parameters_stay(dataset: Dataset) -> None:
    network = small_network()
    network[0].weight.requires_grad_(False)
    before = network[0].weight.clone()
    fine_tune(network, TASK, dataset, steps=2, options=OPTIONS, seed=0)
    assert torch.equal(network[0].weight, before)


def test_cosine_falls_from_the_highest_rate_towards_zero() -> None:
    options = TrainingOptions(lr=0.4)
    rates = [options.learning_rate(step, 4) for step in range(4)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.4, 0.2 * (1 + half), 0.2, 0.2 * (1 - half)])


def test_onecycle_warms_up_first() -> None:
    options = TrainingOptions(lr=0.4, schedule="onecycle")
    rates = [options.learning_rate(step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])  # 15 % of 20 steps, then the top
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.01


class Guess(nn.Module):
    """Says class 1 with logit 2 for bright images, class 0 with logit 2 for dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        bright = (images.mean((1, 2, 3)) > 0).float()
        return torch.stack([2 * (1 - bright), 2 * bright], dim=1)


def test_evaluation_counts_and_averages_over_all_batches(dataset: Dataset) -> None:
    labels = dataset.test.labels.copy()
    labels[:3] = [1, 0, 1]  # three of twelve are now wrong
    split = replace(dataset.test, labels=labels)
    network = Guess().train()
    result = evaluate(network, Classification(label_smoothing=0.3), split, dataset, batch_size=5)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert result == Evaluation(score=0.75, loss=pytest.approx((9 * right + 3 * wrong) / 12), count=12)
    assert network.training


def test_label_smoothing_mixes_in_all_classes() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    loss = Classification(label_smoothing=0.2).loss(nn.Identity(), logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(0.9 * right + 0.1 * wrong)


class Brightness:
    """A task of one's own: regression, scored by the negative error."""

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(module(images)[:, 0], targets)

    def evaluate(self, module: nn.Module, batches: Batches) -> Evaluation:
        errors = torch.cat([(module(images)[:, 0] - targets).square() for images, targets in batches])
        return Evaluation(score=-errors.mean().item(), loss=errors.mean().item(), count=len(errors))


def test_another_task_needs_only_the_two_methods(dataset: Dataset) -> None:
    def measured(split: Split) -> Split:
        return replace(split, labels=(split.images.mean((1, 2, 3)) / 255).astype(np.float32))

    data = replace(dataset, train=measured(dataset.train), holdout=measured(dataset.holdout))
    network = small_network()
    before = evaluate(network, Brightness(), data.holdout, data)
    fine_tune(network, Brightness(), data, steps=20, options=OPTIONS, seed=0)
    assert evaluate(network, Brightness(), data.holdout, data).score > before.score
