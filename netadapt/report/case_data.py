"""The `data` of benchmark cases as docs/benchmarks.md tells it, checked when it is read. Latencies are in ns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from netadapt.errors import ResultsError
from netadapt.measure.definitions import faults_of
from netadapt.results.schema import CaseResult

Arm = Literal[
    "original",
    "multiplier",
    "uniform",
    "netadapt-macs",
    "netadapt-latency",
    "netadapt-macs-retrained",
    "netadapt-latency-retrained",
]


#: Something that took time at all: relative errors are divided by it.
Latency = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    """A part of a case's data; a later version may add fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Predicted(_Part):
    """A network, predicted and measured."""

    predicted_ns: float
    measured_ns: Latency


class Repeated(_Part):
    """A network that was measured twice."""

    first_ns: Latency
    second_ns: Latency


class PredictedLayer(_Part):
    """A layer of the original network, which may be too small to see."""

    workload: str
    predicted_ns: float
    measured_ns: float
    how: str


class LutAccuracy(_Part):
    """Of `lut_accuracy`."""

    network: str
    networks: tuple[Predicted, ...]
    run: tuple[Predicted, ...]
    noise: tuple[Repeated, ...]
    layers: tuple[PredictedLayer, ...]


class MeasuredProposal(_Part):
    """A proposal by the platform's clock."""

    group: str
    from_width: int
    width: int
    predicted_ns: float
    measured_ns: Latency
    holdout_accuracy: float


class ProposalLatency(_Part):
    """Of `proposal_latency`."""

    network: str
    limit_ns: Latency
    original_ns: Latency
    proposals: tuple[MeasuredProposal, ...]


class ProposalCost(_Part):
    """What it took to make a proposal."""

    group: str
    choose_width_s: float
    choose_filters_s: float
    fine_tune_s: float
    evaluate_s: float


class ProposalCosts(_Part):
    """Of `proposal_latency`, by the host's clock."""

    proposals: tuple[ProposalCost, ...]


class ArmNetwork(_Part):
    """A trained network of an arm."""

    arm: Arm
    label: str
    seed: int
    latency_ns: Latency
    predicted_ns: float | None
    macs: float
    params: float
    holdout_accuracy: float
    test_accuracy: float


class Candidate(_Part):
    """A proposal of an iteration."""

    group: str
    width: int
    #: None in a run that is not driven by latency.
    predicted_ns: float | None
    holdout_accuracy: float


class Iteration(_Part):
    """An accepted network; iteration 0 is the original."""

    iteration: int
    group: str | None
    widths: dict[str, int]
    predicted_ns: float
    measured_ns: Latency
    holdout_accuracy: float
    proposals: tuple[Candidate, ...]


class Run(_Part):
    """A run of NetAdapt."""

    seed: int
    driver: Literal["macs", "latency"]
    original_widths: dict[str, Annotated[int, Field(gt=0)]]
    iterations: tuple[Iteration, ...]

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        for entry in self.iterations:
            if entry.widths.keys() != self.original_widths.keys():
                raise ValueError(f"iteration {entry.iteration} has other channel groups than the original")
        return self


class LayerTime(_Part):
    """A workload and its latency by the table."""

    workload: str
    latency_ns: float


class LayerTimes(_Part):
    """Where time goes before and after."""

    before: tuple[LayerTime, ...]
    after: tuple[LayerTime, ...]

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if len(self.before) != len(self.after):
            raise ValueError("there are other layers before than after")
        return self


class Epochs(_Part):
    """How long networks were trained."""

    pre_training: float
    fine_tuning: float
    from_scratch: float


class EndToEnd(_Part):
    """Of `end_to_end_speedup`."""

    network: str
    data: str
    epochs: Epochs
    arms: tuple[ArmNetwork, ...]
    runs: tuple[Run, ...]
    layers: LayerTimes


class Ablation(_Part):
    """A run with one setting changed."""

    ablation: str
    setting: str
    seed: int
    iterations: int
    latency_ns: Latency
    macs: float
    holdout_accuracy: float
    test_accuracy: float


class Ablations(_Part):
    """Of `ablations`."""

    rows: tuple[Ablation, ...]


class CostOfRun(_Part):
    """What a search took; version 1 had one seed and did not tell it."""

    seed: int = 0
    label: str
    workers: int
    wall_s: float
    training_s: float
    proposals: int
    measurements: int


class SearchCost(_Part):
    """Of `search_cost`, by the host's clock."""

    runs: tuple[CostOfRun, ...]


class Search(_Part):
    """What a way to search found; `idea` was taken away from the fast one."""

    network: str
    seed: int
    arm: Literal["paper", "fast", "fast without"]
    idea: str | None
    proposals: int
    test_accuracy: float

    @property
    def way(self) -> str:
        """The way as it is called in a table."""
        return f"{self.arm} {self.idea}" if self.idea else self.arm


class FoundBySearch(Search):
    """By the platform's clock."""

    iterations: int
    budget_met: bool
    latency_ns: Latency
    holdout_accuracy: float


class SpeedupVsExhaustive(_Part):
    """Of `speedup_vs_exhaustive`."""

    data: str
    runs: tuple[FoundBySearch, ...]


class TimeOfSearch(Search):
    """By the host's clock."""

    search_s: Annotated[float, Field(gt=0)]
    wall_s: float
    measurements: int


class RemadeProposals(_Part):
    """Some proposals of a run, made in the way of the paper's own code, and what all of them would take."""

    network: str
    made: int
    proposals: int
    extrapolated_s: Annotated[float, Field(gt=0)]


class TimesVsExhaustive(_Part):
    """Of `speedup_vs_exhaustive`, by the host's clock."""

    runs: tuple[TimeOfSearch, ...]
    reference: tuple[RemadeProposals, ...]

    @model_validator(mode="after")
    def _check_paper(self) -> Self:
        """All are compared with the paper's way."""
        paper = {(run.network, run.seed) for run in self.runs if run.arm == "paper"}
        for run in self.runs:
            if (run.network, run.seed) not in paper:
                raise ValueError(f"{run.network} was not searched in the paper's way with seed {run.seed}")
        for entry in self.reference:
            if entry.network not in {network for network, _ in paper}:
                raise ValueError(f"{entry.network} was not searched in the paper's way")
        return self


class Published(_Part):
    """A board's published latency, and the simulated one."""

    board: str
    core: str
    network: str
    dtype: str
    published_ns: Latency
    simulated_ns: Latency


class Fidelity(_Part):
    """Of `simulator_fidelity`."""

    networks: tuple[Published, ...]


class Digits(_Part):
    """One thing that two runs gave."""

    what: str
    first: Any
    second: Any


class Determinism(_Part):
    """Of `determinism`."""

    digits: tuple[Digits, ...]


_Data = TypeVar("_Data", bound=BaseModel)


def data_of(case: CaseResult, kind: type[_Data], path: Path) -> _Data:
    """The data of a case out of the results file at `path`.

    Raises:
        ResultsError: it is not what the case gives.

    """
    try:
        return kind.model_validate(case.data)
    except ValidationError as error:
        faults = "; ".join(faults_of(error))
        raise ResultsError(f"{path}: data of case {case.id} is not what docs/benchmarks.md says: {faults}") from error
