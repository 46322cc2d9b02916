"""Carry out an order: narrow, fine-tune briefly, evaluate. What an executor runs, in whatever process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from netadapt.errors import NonFiniteLossError
from netadapt.network.network import AdaptableNetwork
from netadapt.search.image_results import save_image_results
from netadapt.search.outcome import Order, Outcome, dropped, image_results_path
from netadapt.search.proposals import narrowed
from netadapt.train.data.types import Dataset
from netadapt.train.device import CPU
from netadapt.train.loop import TrainingOptions, evaluate, fine_tune, refresh_statistics
from netadapt.train.memory import peak_memory_bytes, reset_peak_memory
from netadapt.train.task import Evaluation, Task
from netadapt.zoo.weight_files import load_weights, save_weights

#: Batches from which batch normalisation's statistics are taken anew: a thousand images, as many as they were worth
#: when the network was trained (momentum 0.1).
_REFRESHING_BATCHES = 8


@dataclass(frozen=True)
class Training:
    """How a stage is trained: number of batches and options."""

    steps: int
    options: TrainingOptions


@dataclass
class ProposalTrainer:
    """Makes proposals of one network for one task; a function of the order alone when torch uses one thread.

    `on_step` is called after every training step, for whoever wants to stop in between.
    """

    network: AdaptableNetwork
    task: Task
    dataset: Dataset
    options: TrainingOptions
    on_step: Callable[[int, float], None] | None = None
    device: str = CPU
    _source: tuple[Path, nn.Module] | None = field(default=None, init=False)

    def __call__(self, order: Order) -> Outcome:
        """The outcome of `order`, whose weights are then in `order.target`; dropped if the loss is not finite."""
        reset_peak_memory()
        started = time.perf_counter()
        changes = narrowed(order.source_widths, order.proposal.widths)
        module = self.network.narrowed(self._source_network(order), changes)
        try:
            if order.steps:
                self._fine_tune(module, order)
            elif changes:
                self._refresh(module, order)
        except NonFiniteLossError as error:
            return self._dropped(order, str(error), started)
        evaluation = self._evaluate(module, order)
        if not (math.isfinite(evaluation.loss) and math.isfinite(evaluation.score)):
            reason = f"its hold-out loss is {evaluation.loss}, its score {evaluation.score}"
            return self._dropped(order, reason, started)
        seconds = time.perf_counter() - started
        save_weights(module, order.target, {"widths": order.proposal.widths})
        if evaluation.images:
            save_image_results(evaluation.images, image_results_path(order.target))
        return Outcome(
            order.proposal,
            order.look,
            evaluation.score,
            evaluation.loss,
            seconds,
            order.target,
            memory_bytes=peak_memory_bytes(),
        )

    def _dropped(self, order: Order, reason: str, started: float) -> Outcome:
        outcome = dropped(order, reason, time.perf_counter() - started)
        return replace(outcome, memory_bytes=peak_memory_bytes())

    def _fine_tune(self, module: nn.Module, order: Order) -> None:
        fine_tune(
            module,
            self.task,
            self.dataset,
            steps=order.steps,
            options=self.options,
            seed=order.seed,
            on_step=self.on_step,
            device=self.device,
        )

    def _refresh(self, module: nn.Module, order: Order) -> None:
        refresh_statistics(
            module,
            self.dataset,
            batches=_REFRESHING_BATCHES,
            options=self.options,
            seed=order.seed,
            device=self.device,
        )

    def _evaluate(self, module: nn.Module, order: Order) -> Evaluation:
        return evaluate(module, self.task, order.look.sample(self.dataset.holdout), self.dataset, device=self.device)

    def _source_network(self, order: Order) -> nn.Module:
        """The network that all proposals of an iteration start from; kept, as they come one after another."""
        if self._source is None or self._source[0] != order.source:
            self._source = (order.source, load_network(self.network, order.source_widths, order.source))
        return self._source[1]


def load_network(network: AdaptableNetwork, widths: dict[str, int], weights: Path) -> nn.Module:
    """The module of `widths` with the weights of a file, in evaluation mode."""
    module = network.shaped(widths)
    load_weights(module, weights)
    return module.eval()
