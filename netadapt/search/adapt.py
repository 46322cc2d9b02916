"""The whole job: search down to the budget, fine-tune long, export, and prove the speed-up by measuring."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netadapt.errors import BudgetError
from netadapt.lut.estimator import Estimator
from netadapt.lut.predictor import Predictor, allowed_widths
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.network.export import to_onnx, write_onnx
from netadapt.network.network import AdaptableNetwork
from netadapt.network.normalising import deployable
from netadapt.network.preprocessing import Preprocessing
from netadapt.search.budget import COUNTED, Budget, Resources, Schedule, in_words, require_metrics
from netadapt.search.continuing import MeasuredSearch, apply_corrections
from netadapt.search.executors import make_executor
from netadapt.search.fast import make_search
from netadapt.search.image_results import save_image_results
from netadapt.search.judging import Judge
from netadapt.search.making import ProposalMaker
from netadapt.search.measured import MeasuredNetworks
from netadapt.search.metrics import Counted, Estimated, Metric
from netadapt.search.observer import CALIBRATION, CONCLUSION, EVALUATION, FINE_TUNE, Observer
from netadapt.search.options import Options
from netadapt.search.outcome import State
from netadapt.search.proposals import predict
from netadapt.search.run import RunFolder
from netadapt.search.selection import selection_rule
from netadapt.search.summary import Finished, Product, summarise
from netadapt.search.trainer import ProposalTrainer, load_network
from netadapt.train.chance import near_chance
from netadapt.train.data.types import Dataset, Split
from netadapt.train.device import CPU, in_child
from netadapt.train.loop import evaluate, fine_tune
from netadapt.train.memory import give_back_memory
from netadapt.train.task import Classification, Evaluation, Task
from netadapt.zoo.weight_files import save_weights

#: To train on an image takes about so many times as long as to evaluate it: forward, and backward for two gradients.
_TRAINING_COST = 3.0
#: About how long the two networks of the end are measured.
_MEASURING_S = 30.0


@dataclass
class Adaptation:
    """One adaptation of `network` for `device`, in the run folder `out`."""

    network: AdaptableNetwork
    dataset: Dataset
    device: Device
    table: Table
    options: Options
    out: Path
    task: Task = field(default_factory=Classification)
    observer: Observer = field(default_factory=Observer)

    def run(self, resume: bool = False) -> dict[str, Any]:
        """Do all of it and give the summary (see docs/summary.md), also written to `out`.

        A finished run that is resumed gives its summary again.

        Raises:
            BudgetError: the budget is met already, impossible, or out of the schedule's reach.
            RunError: the folder is in use, holds another run, or cannot be written.
            MeasurementError, ModelError, TableError: measuring or exporting failed; the run can be resumed.

        """
        require_metrics(self.device.platform, [budget.metric for budget in self.options.budgets])
        started = time.perf_counter()
        with RunFolder.open(self.out, self._config(), resume) as folder, _one_thread():
            finished = folder.last("finished") or self._search_and_finish(folder, started)
            summary: dict[str, Any] = finished["summary"]
            folder.write_summary(summary)
        self.observer.finished(summary)
        return summary

    def _search_and_finish(self, folder: RunFolder, started: float) -> dict[str, Any]:
        self._report_network()
        original, schedule = self._begin(folder)
        adapted, stopped = self._search(folder, original, schedule)
        if adapted.iteration == 0:
            raise BudgetError(f"the budget cannot be reached from here: {stopped}")
        summary = self._conclude(folder, original, self._fine_tuned(folder, adapted), schedule)
        summary["stopped"] = stopped or None
        summary["cost"]["wall_seconds"] = round(time.perf_counter() - started, 3)
        return folder.record("finished", summary=summary)

    # --- before the search ---

    def _config(self) -> dict[str, Any]:
        options = asdict(self.options)
        options["budgets"] = [str(budget) for budget in self.options.budgets]
        # None rather than False, and no normalisation that is the data set's own: as in runs from before these options.
        options["preprocessing_in_model"] = self.options.preprocessing_in_model or None
        given = [self.dataset.mean, self.dataset.std] if self.dataset.given_normalisation else None
        return {
            **options,
            "network": self.network.name,
            "weights": _digest(self.network.module),
            "data": self.dataset.name,
            "normalisation": given,
            "platform": self.device.platform.name,
            "fingerprint": self.device.fingerprint,
        }

    def _report_network(self) -> None:
        for group in self.network.left_out:
            self.observer.note(f"channels of {group.group} stay as they are: {group.reason}")
        if self.network.plan.unknown:
            names = ", ".join(sorted(set(self.network.plan.unknown)))
            self.observer.note(f"operations without a model of their own, part of the fixed cost: {names}")

    def _begin(self, folder: RunFolder) -> tuple[State, Schedule]:
        """Calibrate and evaluate the original; or read what an earlier part of this run found."""
        event = folder.last("started")
        if event is None:
            event = self._start(folder)
        else:
            for predictor in self._predictors.values():
                predictor.costs.remeasure = False
        apply_corrections(folder, self._estimators)
        self.observer.expect(self._foreseen(event["seconds"] / len(self.dataset.holdout)))
        state = State(0, self.network.widths, event["resources"], event["score"], event["loss"], folder.weights(0))
        return state, self._schedule(state.resources, self.options.budgets)

    def _start(self, folder: RunFolder) -> dict[str, Any]:
        # A budget that makes no sense is refused before anything is recorded, and before measuring where possible.
        counted = [metric for metric in self._metrics if metric.name in COUNTED]
        within = [budget for budget in self.options.budgets if budget.metric in COUNTED]
        self._schedule(predict(counted, self.network.widths), within)
        if self._predictors:
            self.observer.stage(CALIBRATION)
        corrected = self.options.correction
        corrections = {metric: predictor.calibrate(corrected) for metric, predictor in self._predictors.items()}
        for metric, correction in corrections.items():
            if not correction.explains:
                self.observer.note(
                    f"{metric} of whole networks is {correction.residual:.0%} off its prediction on average: "
                    f"{self._doubt()}the network does something that its layers alone do not show"
                )
        resources = predict(self._metrics, self.network.widths)
        self._schedule(resources, self.options.budgets)
        self.observer.stage(EVALUATION)
        started = time.perf_counter()
        holdout = self._evaluate_before_workers(self.dataset.holdout)
        seconds = time.perf_counter() - started
        if isinstance(self.task, Classification) and (
            doubt := near_chance(holdout, self.dataset.holdout, self.dataset)
        ):
            self.observer.note(doubt)
        save_weights(self.network.module, folder.weights(0), {"widths": self.network.widths})
        if holdout.images:
            save_image_results(holdout.images, folder.image_results(0))
        state = State(0, self.network.widths, resources, holdout.score, holdout.loss, folder.weights(0))
        self._keep(folder, state)
        return folder.record(
            "started",
            resources=resources,
            score=holdout.score,
            loss=holdout.loss,
            seconds=seconds,
            corrections={metric: asdict(correction) for metric, correction in corrections.items()},
        )

    def _foreseen(self, seconds_per_image: float) -> dict[str, float | None]:
        """About how long the stages after the search take, by how long the original takes to evaluate an image."""
        training = self.options.long_term
        trained, tested = training.steps * training.options.batch_size, 2 * len(self.dataset.test)
        return {
            FINE_TUNE: _TRAINING_COST * trained * seconds_per_image,
            CONCLUSION: tested * seconds_per_image + _MEASURING_S,
        }

    def _doubt(self) -> str:
        """Name what else may be wrong on a real clock; a simulated one is not disturbed by what runs beside it."""
        return "" if self.device.platform.tier in ("simulated", "emulated") else "the machine is busy, or "

    def _schedule(self, resources: Resources, budgets: Sequence[Budget]) -> Schedule:
        """The way from `resources` down to the budgets.

        Raises:
            BudgetError: one is met already, out of the schedule's reach, or below what the narrowest network costs.

        """
        limits = {budget.metric: budget.limit(resources[budget.metric]) for budget in budgets}
        schedule = Schedule(self.options.pace, {metric: resources[metric] for metric in limits}, limits)
        narrowest = {group: choices[0] for group, choices in self._allowed.items()}
        least = predict([metric for metric in self._metrics if metric.name in limits], narrowest)
        for metric, limit in limits.items():
            if least[metric] > limit:
                raise BudgetError(
                    f"the budget is impossible: with every group at its narrowest the network still costs "
                    f"{in_words(metric, least[metric])} in {metric}, above {in_words(metric, limit)}"
                )
        return schedule

    # --- the search ---

    def _search(self, folder: RunFolder, original: State, schedule: Schedule) -> tuple[State, str]:
        trainer = ProposalTrainer(
            self.network, self.task, self.dataset, self.options.short_term.options, device=self.options.device
        )
        give_back_memory()  # before workers inherit it
        with make_executor(trainer, self.options.workers) as executor:
            search = make_search(
                self.options.strategy,
                holdout_images=len(self.dataset.holdout),
                original=original,
                schedule=schedule,
                metrics=self._metrics,
                allowed=self._allowed,
                select=selection_rule(self.options.selection),
                maker=ProposalMaker(executor, folder, self.options.seed, self.observer),
                folder=folder,
                short_term_steps=self.options.short_term.steps,
                keep=lambda state: self._keep(folder, state),
                observer=self.observer,
            )
            judge = self._judge(folder, schedule)
            return MeasuredSearch(search, judge, self._limited_estimators, folder, self.observer).run()

    def _judge(self, folder: RunFolder, schedule: Schedule) -> Judge:
        networks = MeasuredNetworks(self.device, folder, lambda iteration: self._network_alone(folder, iteration))
        return Judge(self.options.budgets, schedule, networks)

    def _network_alone(self, folder: RunFolder, iteration: int) -> bytes:
        """The model that is measured: without a normalisation in front, so that costs are those that were predicted."""
        if not self._preprocessing.in_model:
            return folder.onnx(iteration).read_bytes()
        widths = folder.accepted()[iteration - 1].widths if iteration else self.network.widths
        module = load_network(self.network, widths, folder.weights(iteration))
        return to_onnx(module, self.network.example_input)

    def _keep(self, folder: RunFolder, state: State) -> None:
        """Export an accepted network as a deployable model that says what it is."""
        module = load_network(self.network, state.widths, state.weights)
        self._write_onnx(folder.onnx(state.iteration), module, state)

    def _write_onnx(self, path: Path, module: nn.Module, state: State) -> None:
        facts = {
            "netadapt.network": self.network.name,
            "netadapt.widths": str({group: state.widths[group] for group in self.network.widths}),
            "netadapt.holdout_score": f"{state.score:.6f}",
            "netadapt.platform": self.device.platform.name,
            "netadapt.tier": self.device.platform.tier,
            **{f"netadapt.predicted_{metric}": f"{value:.0f}" for metric, value in state.resources.items()},
            **self._preprocessing.metadata(),
        }
        write_onnx(path, to_onnx(deployable(module, self._preprocessing), self.network.example_input), facts)

    # --- after the search ---

    def _fine_tuned(self, folder: RunFolder, state: State) -> State:
        """The last network after its long-term fine-tune (paper, Algorithm 1, last line)."""
        event = folder.last("fine-tuned") or self._fine_tune(folder, state)
        return replace(state, score=event["score"], loss=event["loss"], weights=_adapted_weights(folder))

    def _fine_tune(self, folder: RunFolder, state: State) -> dict[str, Any]:
        self.observer.stage(FINE_TUNE)
        module = load_network(self.network, state.widths, state.weights)
        training = self.options.long_term
        started = time.perf_counter()
        fine_tune(
            module,
            self.task,
            self.dataset,
            steps=training.steps,
            options=training.options,
            seed=self.options.seed,
            on_step=lambda step, loss: self.observer.trained(step, training.steps, loss),
            device=self.options.device,
        )
        holdout = self._evaluate(module, self.dataset.holdout)
        seconds = time.perf_counter() - started
        save_weights(module, _adapted_weights(folder), {"widths": state.widths})
        self._write_onnx(_adapted_onnx(folder), module, replace(state, score=holdout.score, loss=holdout.loss))
        return folder.record("fine-tuned", score=holdout.score, loss=holdout.loss, seconds=seconds)

    def _conclude(self, folder: RunFolder, original: State, final: State, schedule: Schedule) -> dict[str, Any]:
        self.observer.stage(CONCLUSION)
        modules = [load_network(self.network, state.widths, state.weights) for state in (original, final)]
        # The only time that the test split is read.
        started = time.perf_counter()
        tests = [self._evaluate(module, self.dataset.test) for module in modules]
        folder.record("tested", scores=[test.score for test in tests], seconds=time.perf_counter() - started)
        return summarise(
            Finished(
                self.network,
                self.dataset,
                self.device,
                self.options,
                folder,
                self._judge(folder, schedule),
                self._predictors,
                self._preprocessing,
            ),
            Product(original, folder.onnx(0), tests[0]),
            Product(final, _adapted_onnx(folder), tests[1]),
        )

    # --- what the parts share ---

    def _evaluate(self, module: nn.Module, split: Split) -> Evaluation:
        return evaluate(module, self.task, split, self.dataset, device=self.options.device)

    def _evaluate_before_workers(self, split: Split) -> Evaluation:
        """Evaluate the original; on a GPU in a child, as one that this process has used is lost to its workers."""
        if self.options.device == CPU:
            return self._evaluate(self.network.module, split)
        return Evaluation.from_json(in_child(lambda: self._evaluate(self.network.module, split).to_json()))

    @cached_property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing.of(self.dataset, self.network.example_input, self.options.preprocessing_in_model)

    @cached_property
    def _allowed(self) -> dict[str, Sequence[int]]:
        return allowed_widths(self.network, self.device)

    @cached_property
    def _predictors(self) -> dict[str, Predictor]:
        """One for each metric of the platform that is to be predicted: measuring for others would tell nothing."""
        limited = {budget.metric for budget in self.options.budgets}
        return {
            metric: Predictor(self.network, self.device, self.table, metric, self.observer.measured, self.observer.busy)
            for metric in self.device.platform.metrics
            if metric in limited or self.options.predicted == "all"
        }

    @property
    def _estimators(self) -> dict[str, Estimator]:
        return {metric: predictor.estimator for metric, predictor in self._predictors.items()}

    @property
    def _limited_estimators(self) -> dict[str, Estimator]:
        limited = {budget.metric for budget in self.options.budgets}
        return {metric: estimator for metric, estimator in self._estimators.items() if metric in limited}

    @cached_property
    def _metrics(self) -> tuple[Metric, ...]:
        estimated = [Estimated(metric, predictor.estimator) for metric, predictor in self._predictors.items()]
        plan = self.network.plan
        return (*estimated, Counted("macs", plan.macs), Counted("params", plan.params))


def _adapted_weights(folder: RunFolder) -> Path:
    return folder.path / "weights" / "adapted.safetensors"


def _adapted_onnx(folder: RunFolder) -> Path:
    return folder.path / "onnx" / "adapted.onnx"


def _digest(module: nn.Module) -> str:
    """Hash of a module's weights, so that a run is not resumed with others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread, here as in every worker, so that all executors compute the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
