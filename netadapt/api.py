"""The Python interface: adapt a module that you have in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netadapt.errors import DataError
from netadapt.lut.store import Table
from netadapt.measure.device import open_device
from netadapt.measure.platform import Platform
from netadapt.network.network import analyse
from netadapt.search.adapt import Adaptation
from netadapt.search.budget import Pace, parse_budgets
from netadapt.search.observer import Observer
from netadapt.search.options import LONG_TERM, SHORT_TERM, Options
from netadapt.search.selection import Selection
from netadapt.search.trainer import Training, load_network
from netadapt.train.data import Dataset, load_dataset
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
    pace: Pace | None = None,
    short_term: Training = SHORT_TERM,
    long_term: Training = LONG_TERM,
    workers: int = 1,
    seed: int = 0,
    correction: bool = True,
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
        pace: number of iterations and decay of the steps.
        short_term: fine-tune of each proposal.
        long_term: fine-tune of the last network.
        workers: processes that make proposals at the same time.
        seed: of everything random.
        correction: whether to correct predictions by a few whole-network measurements.
        table: file of the look-up table; by default one in the user's cache folder.
        resume: go on with the run in `out`.
        name: what to call the network; by default the name of its class.
        observer: hears of progress.

    Raises:
        NetAdaptError: see the subclasses in `netadapt.errors`.

    """
    dataset = load_dataset(data, int(example_input.shape[-1])) if isinstance(data, str) else data
    if dataset.channels != example_input.shape[1]:
        raise DataError(f"{dataset.name} has {dataset.channels} channel(s), the example input {example_input.shape[1]}")
    options = Options(
        budgets=parse_budgets([budget] if isinstance(budget, str) else budget),
        selection=selection,
        pace=pace or Pace(),
        short_term=short_term,
        long_term=long_term,
        workers=workers,
        seed=seed,
        correction=correction,
    )
    folder = Path(out)
    observer = observer or Observer()
    network = analyse(
        name or type(model).__name__,
        model,
        example_input,
        on_group=lambda group: observer.stage(f"trying to narrow {group}"),
    )

    def tell_fallback(asked: str, reason: str, used: str) -> None:
        observer.note(f"platform {asked} is not available ({reason}); all measurements are from {used} instead")

    def tell_wait() -> None:
        observer.note("another process is measuring on this machine; waiting for it")

    with open_device(platform, tell_wait, tell_fallback) as device, Table.open(table) as opened:
        adaptation = Adaptation(network, dataset, device, opened, options, folder, task or Classification(), observer)
        summary = adaptation.run(resume)
    product = summary["adapted"]
    module = load_network(network, product["widths"], folder / product["weights"])
    return AdaptedNetwork(module, folder / product["onnx"], summary)
