"""The Python interface: adapt a module that you have in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netadapt.errors import DataError, OptionError
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.measure.platform import Platform, load_platform
from netadapt.network.network import AdaptableNetwork, analyse
from netadapt.network.plan import Plan
from netadapt.network.preprocessing import Place, is_in_model
from netadapt.search.adapt import Adaptation
from netadapt.search.budget import Budget, Pace, parse_budgets, require_metrics
from netadapt.search.executors.workers import Workers
from netadapt.search.journal import require_free
from netadapt.search.observer import ANALYSIS, CONCLUSION, FINE_TUNE, Observer
from netadapt.search.options import LONG_TERM, SHORT_TERM, Options, Predicted
from netadapt.search.selection import Selection
from netadapt.search.strategy import FAST, Strategy
from netadapt.search.trainer import Training, load_network
from netadapt.train.batches import Augmentation
from netadapt.train.data import Dataset, load_dataset
from netadapt.train.data.normalisation import normalised
from netadapt.train.device import CPU, TrainingDeviceError, training_device
from netadapt.train.fit import require_channels, require_fit
from netadapt.train.memory import TrainingMemory, give_back_memory
from netadapt.train.task import Classification, Task


@dataclass(frozen=True)
class AdaptedNetwork:
    """What an adaptation gives: the narrowed and fine-tuned module, its ONNX file, and the run's summary."""

    module: nn.Module
    onnx: Path
    summary: dict[str, Any]


def adapt(
    model: nn.Module,
    example_input: Tensor,
    data: Dataset | str,
    *,
    budget: str | Sequence[str],
    out: Path | str,
    platform: Platform | str | Path = "ort-local",
    task: Task | None = None,
    selection: Selection = "accuracy",
    strategy: Strategy = FAST,
    pace: Pace | None = None,
    short_term: Training = SHORT_TERM,
    long_term: Training = LONG_TERM,
    workers: int | str = 1,
    device: str = CPU,
    seed: int = 0,
    correction: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Augmentation | None = None,
    preprocessing: Place = "caller",
    predicted: Predicted = "limited",
    table: Path | str | None = None,
    resume: bool = False,
    name: str | None = None,
    observer: Observer | None = None,
) -> AdaptedNetwork:
    """Adapt `model` to a budget on a platform; `model` itself is left as it is.

    Args:
        model: a trained network that takes an input like `example_input` `[N, C, H, W]`.
        example_input: what is measured; N is usually 1.
        data: images to fine-tune and choose with; a name such as `fashion-mnist-mini`, or a `Dataset` of your own.
        budget: one or several of `latency=0.6x`, `latency=20ms`, `macs=3M`, `params=0.5x`.
        out: the run folder; see `netadapt.search.run`.
        platform: name, file, or definition of the platform to measure on.
        task: what to train for and how to score, if the network is not a classifier.
        selection: `accuracy` (the paper) or `ratio`.
        strategy: how the search spends its time: `FAST`, `PAPER`, or a `Strategy` of your own.
        pace: number of iterations and decay of the steps.
        short_term: fine-tune of each proposal.
        long_term: fine-tune of the last network.
        workers: processes that make proposals at the same time, `ray`, `ray:NUMBER` or `ray://HOST:PORT`.
        device: where to train: `cpu`, `cuda`, `cuda:INDEX`, or `auto` for CUDA where torch sees it; workers share it.
        seed: of everything random.
        correction: whether to correct predictions by a few whole-network measurements.
        mean: of pixels scaled to 0..1, with which `model` was trained, if not that of the data set; with `std`.
        std: likewise, the standard deviation.
        augmentation: random change of training images in both stages, instead of what these say; take
            `Augmentation(flip=False)` where a mirrored image means something else (digits, text, traffic signs).
        preprocessing: `caller` if who runs the exported models normalises their input, `in-model` if they do so
            themselves and take pixels from 0 to 255; see docs/deploy.md.
        predicted: metrics of the platform in which every network on the way is predicted: those that are `limited` by a
            budget, or `all`, for which more layers are measured.
        table: file of the look-up table; by default one in the user's cache folder.
        resume: go on with the run in `out`.
        name: what to call the network; by default the name of its class.
        observer: hears of progress.

    Raises:
        NetAdaptError: see the subclasses in `netadapt.errors`.

    """
    # What can be wrong is found before data are loaded, and before minutes of analysis.
    folder, observer = Path(out), observer or Observer()
    budgets = parse_budgets([budget] if isinstance(budget, str) else budget)
    wanted = platform if isinstance(platform, Platform) else load_platform(platform)
    require_metrics(wanted, [each.metric for each in budgets])
    require_free(folder, resume)
    placed = Workers.parse(workers)
    placed.require()
    trained_on = _training_device(device, placed)
    in_model = is_in_model(preprocessing)

    def tell_fallback(asked: str, reason: str, used: str) -> None:
        observer.note(f"platform {asked} is not available ({reason}); all measurements are from {used} instead")

    with open_device(wanted, observer.waiting, tell_fallback) as measured, Table.open(table) as opened:
        dataset = _load(data, example_input, mean, std)
        if augmentation:
            short_term, long_term = (_augmented(training, augmentation) for training in (short_term, long_term))
        called = name or type(model).__name__
        if task is None or type(task) is Classification:
            require_fit(called, model, example_input, dataset)
        else:
            require_channels(example_input, dataset)
        options = Options(
            budgets=budgets,
            selection=selection,
            strategy=strategy,
            pace=pace or Pace(),
            short_term=short_term,
            long_term=long_term,
            workers=workers,
            device=trained_on,
            seed=seed,
            correction=correction,
            preprocessing_in_model=in_model,
            predicted=predicted,
        )
        for remark in dataset.remarks:
            observer.note(f"{dataset.name}: {remark}")
        observer.expect({FINE_TUNE: None, CONCLUSION: None})
        observer.stage(ANALYSIS)
        network = analyse(
            called,
            model,
            example_input,
            on_original=lambda plan: _require_unmet(budgets, plan),
            on_group=observer.analysed,
        )
        give_back_memory()  # what the analysis left would count as taken
        if trained_on == CPU and not placed.ray:
            batch = max(training.options.batch_size for training in (short_term, long_term))
            _tell_if_short_of_memory(network, batch, placed.count or 1, observer)
        adaptation = Adaptation(network, dataset, measured, opened, options, folder, task or Classification(), observer)
        summary = adaptation.run(resume)
    product = summary["adapted"]
    module = load_network(network, product["widths"], folder / product["weights"])
    return AdaptedNetwork(module, folder / product["onnx"], summary)


def _require_unmet(budgets: Sequence[Budget], plan: Plan) -> None:
    """Refuse budgets in what is counted that the original meets already.

    Raises:
        BudgetError: one is.

    """
    counted = {"macs": plan.macs({}), "params": plan.params({})}
    for budget in budgets:
        if budget.metric in counted:
            budget.limit(counted[budget.metric])


def _load(
    data: Dataset | str, example_input: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Dataset:
    if isinstance(data, str):
        height, width = example_input.shape[2:]
        if height != width:
            raise DataError(
                f"{data}: named data sets are square, but the example input is {height} x {width}; give a Dataset"
            )
        data = load_dataset(data, int(width), int(example_input.shape[1]))
    if mean is None and std is None:
        return data
    if mean is None or std is None:
        raise OptionError("mean and std belong together; give both, for pixels scaled to 0..1")
    return normalised(data, mean, std)


def _augmented(training: Training, augmentation: Augmentation) -> Training:
    return replace(training, options=replace(training.options, augmentation=augmentation))


def _tell_if_short_of_memory(network: AdaptableNetwork, batch_size: int, workers: int, observer: Observer) -> None:
    try:
        needed = TrainingMemory.of(network.module, network.example_input)
    except Exception:
        return  # what does not run in training mode fails when it is trained, with a message of its own
    if warning := needed.warning(batch_size, workers):
        observer.note(warning)


def _training_device(name: str, workers: Workers) -> str:
    if not workers.ray:
        return training_device(name, workers.count or 1)
    if name not in (CPU, "auto"):
        raise TrainingDeviceError(f"{name}: Ray's workers train on CPUs only; take cpu, or a number of workers")
    return CPU
