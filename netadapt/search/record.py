"""The documents of a run: `config.json`, the events of the journal, and the summary.

A search that is resumed and a report read them by these types, so that nothing else has to check them. The types are
strict: a number in quotation marks is damage, not a number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from netadapt.measure.measurement import Measurement, Status
from netadapt.search.strategy import PAPER, Strategy

Widths = dict[str, Annotated[int, Field(gt=0, le=1 << 31)]]
#: Of any cost: as nanoseconds, 30 years.
_MOST = 1e18
#: A cost that others are divided by.
_Cost = Annotated[float, Field(gt=1e-9, le=_MOST)]
#: More iterations than any search has.
_Iteration = Annotated[int, Field(ge=0, le=100_000)]
#: As `netadapt.search.budget.Budget` writes it: a share of the original, or an amount in the metric's base unit.
_BudgetText = Annotated[str, Field(pattern=r"^(latency|energy|macs|params)=[0-9]+(\.[0-9]+)?(e[+-]?[0-9]{1,3})?x?$")]


class _Part(BaseModel):
    """A part of a document of a run, with the fields that a report or a resumed search needs."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _Argument(BaseModel):
    """A part that a resumed search makes a value of: it has these fields and no others."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


# --- config.json ---


class Pace(_Part):
    """How the reduction was spread over the iterations."""

    iterations: int
    decay: float
    initial_reduction: float | None


class TrainingOptions(_Part):
    """Of a fine-tune."""

    batch_size: int
    lr: float


class Training(_Part):
    """A fine-tune."""

    steps: int
    options: TrainingOptions


class Config(_Part):
    """The configuration: `config.json`."""

    schema_version: int
    network: str
    data: str
    platform: str
    fingerprint: str
    budgets: Annotated[tuple[_BudgetText, ...], Field(min_length=1)]
    selection: str
    #: Runs of older versions do not have it.
    strategy: Strategy = PAPER
    seed: int
    workers: int | str
    correction: bool
    pace: Pace
    short_term: Training
    long_term: Training


# --- summary.json ---


class Provenance(_Part):
    """Where a measurement comes from; see `netadapt.measure.measurement`."""

    runtime: str
    runtime_version: str
    machine: str
    os: str
    date: str
    netadapt: str
    protocol_version: int
    commit: str | None = None


class LayerTime(_Part):
    """A workload and its latency by the table."""

    workload: str
    latency_ns: Annotated[float, Field(ge=0, le=_MOST)]


class Product(_Part):
    """One of the two networks of a summary, with its costs in each metric of the platform."""

    widths: Widths
    macs: PositiveInt
    params: PositiveInt
    latency_ns: PositiveInt
    latency_status: str
    #: None where no budget limits latency, so that it was not predicted.
    predicted_latency_ns: NonNegativeInt | None = None
    energy_pj: PositiveInt | None = None
    energy_status: str = ""
    predicted_energy_pj: NonNegativeInt | None = None
    holdout_accuracy: float
    test_accuracy: float
    test_images: int
    onnx: str
    weights: str
    provenance: Provenance
    #: Runs of older versions do not have it.
    layers: tuple[LayerTime, ...] = ()

    @model_validator(mode="after")
    def _check_energy(self) -> Self:
        if self.energy_pj is None and self.predicted_energy_pj is not None:
            raise ValueError("predicted_energy_pj without energy_pj")
        return self

    def cost(self, name: str) -> Any:
        """A field that depends on the platform's metrics, such as `energy_pj`; None where there is none."""
        return getattr(self, name, None)


class Speedup(_Part):
    """Original over adapted latency, from interleaved pairs."""

    ratio: float
    low: float
    high: float
    verdict: str
    #: Whether the interval names a figure; runs of older versions do not say it.
    conclusive: bool = True


class MeasuredCost(_Part):
    """The limit and the measured cost; shares of the original where `of_original`, else in base units."""

    of_original: bool
    allowed: float
    value: float
    low: float
    high: float


class BudgetOutcome(_Part):
    """A limit, and what the original and the adapted network cost by prediction; what was measured, and the verdict."""

    limit: float
    original: _Cost
    predicted: float
    #: Runs of older versions were judged by their predictions.
    measured: MeasuredCost | None = None
    verdict: Literal["met", "undecided", "not met"] | None = None


class LeftOut(_Part):
    """A channel group that kept its width."""

    group: str
    reason: str


class DroppedProposal(_Part):
    """A proposal that could not be made."""

    iteration: _Iteration
    group: str
    reason: str


class Cost(_Part):
    """The effort that a run took."""

    proposals: int
    dropped_proposals: tuple[DroppedProposal, ...]
    training_seconds: float
    wall_seconds: float
    measurements: int


class ParetoPoint(_Part):
    """An accepted network as the summary lists it."""

    iteration: _Iteration
    widths: Widths
    holdout_accuracy: float


class Summary(_Part):
    """The outcome: `summary.json` and the journal's last event."""

    schema_version: int
    network: str
    data: str
    platform: str
    requested_platform: str
    tier: str
    budget: dict[str, BudgetOutcome]
    budget_met: bool
    #: Iterations after which predictions were corrected; runs of older versions do not have it.
    corrected_after: tuple[_Iteration, ...] = ()
    stopped: str | None
    iterations: _Iteration
    original: Product
    adapted: Product
    speedup: Speedup
    left_out: tuple[LeftOut, ...]
    unknown_operations: tuple[str, ...]
    pareto: tuple[ParetoPoint, ...]
    cost: Cost

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if len(self.original.layers) != len(self.adapted.layers):
            raise ValueError("the original and the adapted network have different layers")
        return self


# --- journal.jsonl ---


class Correction(_Argument):
    """The cost of whole networks beyond the sum of their layers; see `netadapt.lut.estimator`."""

    scale: float
    offset: float
    networks: int
    residual: float


class Started(_Part):
    """The original network was measured and evaluated."""

    event: Literal["started"]
    resources: dict[str, _Cost]
    score: float
    loss: float
    corrections: dict[str, Correction]
    seconds: NonNegativeFloat = 0.0


class ProposedWidths(_Argument):
    """See `netadapt.search.proposals.Proposal`."""

    iteration: _Iteration
    group: str
    widths: Widths
    resources: dict[str, float]


class LookTaken(_Argument):
    """See `netadapt.search.outcome.Look`."""

    steps: NonNegativeInt
    images: NonNegativeInt | None = None
    part: NonNegativeInt | None = None
    every: PositiveInt | None = None


class ProposalOutcome(_Argument):
    """See `netadapt.search.outcome.Outcome`."""

    proposal: ProposedWidths
    #: Runs of older versions do not have it; they can be shown, not resumed.
    look: LookTaken | None = None
    score: float
    loss: float
    seconds: NonNegativeFloat
    weights: str
    dropped: str
    memory_bytes: NonNegativeInt = 0


class Proposed(_Part):
    """A proposal was made, or dropped."""

    event: Literal["proposal"]
    outcome: ProposalOutcome


class Accepted(_Part):
    """A proposal became the network of its iteration."""

    event: Literal["accepted"]
    iteration: _Iteration
    group: str
    widths: Widths
    resources: dict[str, float]
    score: float
    loss: float
    #: Runs of older versions do not have it.
    wall_seconds: NonNegativeFloat = 0.0


class Measured(_Part):
    """A network was measured whole; 0 is the original."""

    event: Literal["measured"]
    iteration: _Iteration
    costs: dict[str, Measurement]

    @field_validator("costs")
    @classmethod
    def _check_values(cls, costs: dict[str, Measurement]) -> dict[str, Measurement]:
        if any(cost.value <= 0 for cost in costs.values()):
            raise ValueError("a network costs more than nothing")
        return costs


class Compared(_Part):
    """A network was measured in turn with the original; see `netadapt.search.measured`."""

    event: Literal["compared"]
    iteration: _Iteration
    ratio: _Cost
    low: _Cost
    high: _Cost
    verdict: str
    status: Status


class Corrected(_Part):
    """A network was measured above its budget, so predictions were corrected; `resources` is its corrected one."""

    event: Literal["corrected"]
    iteration: _Iteration
    corrections: dict[str, Correction]
    resources: dict[str, float]


class FineTuned(_Part):
    """The last network had its long fine-tune."""

    event: Literal["fine-tuned"]
    score: float
    loss: float
    seconds: NonNegativeFloat = 0.0


class Tested(_Part):
    """Both networks were evaluated on the test split."""

    event: Literal["tested"]
    seconds: NonNegativeFloat = 0.0


class Finished(_Part):
    """The run has ended."""

    event: Literal["finished"]
    summary: Summary


Event = Annotated[
    Started | Proposed | Accepted | Measured | Compared | Corrected | FineTuned | Tested | Finished,
    Field(discriminator="event"),
]
