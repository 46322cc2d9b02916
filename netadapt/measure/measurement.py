"""What measuring gives: a value with its spread, how far to trust it, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from netadapt.errors import MeasurementError

Status = Literal["converged", "stable-noisy", "unconverged", "contended"]
Tier = Literal["device", "local", "simulated", "emulated"]

#: From the most to the least trustworthy.
STATUSES: tuple[Status, ...] = get_args(Status)
TIERS: tuple[Tier, ...] = get_args(Tier)
#: Of numbers that should not be relied on: the machine was too busy.
DOUBTFUL: frozenset[Status] = frozenset({"contended", "unconverged"})

#: Unit of each metric that a platform can measure.
UNITS = {"latency": "ns", "energy": "pJ"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a number comes from. Names neither the host nor the user, so that tables can be published."""

    platform: str
    #: The platform that was asked for; differs from `platform` where a fallback was used.
    requested: str
    fingerprint: str
    protocol_version: int
    netadapt: str
    runtime: str
    runtime_version: str
    machine: str
    cores: int
    os: str
    #: Day of the measurement, ISO 8601 (UTC).
    date: str
    #: Commit of the checkout this package runs from; None for an installed one.
    commit: str | None = None
    #: What exactly ran: "model" is the file as given; a runtime may add others (see its documentation).
    form: str = "model"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric of one model on one platform. Values are whole numbers of `unit` for one run of the model."""

    metric: str
    unit: str
    #: First quartile of the blocks that count: contention only ever adds time.
    value: int
    minimum: int
    median: int
    #: Median absolute deviation of these blocks.
    mad: int
    #: Number of blocks that the value is read from: the clean ones, unless there were hardly any.
    samples: int
    clean_fraction: float
    #: Half of the 99 % confidence interval of `value`, divided by `value`; None with too few samples for one. For a
    #: contended measurement at least the distance to the fastest block, and how much slower the machine had become.
    relative_half_width: float | None
    status: Status
    tier: Tier
    provenance: Provenance

    def to_json(self) -> str:
        """Write the canonical text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Read what `to_json` wrote.

        Raises:
            MeasurementError: the text is not a measurement.

        """
        try:
            fields: dict[str, Any] = json.loads(text)
            return cls(**{**fields, "provenance": Provenance(**fields["provenance"])})
        except (ValueError, TypeError, KeyError) as error:
            raise MeasurementError(f"not a measurement ({error}): {text[:80]!r}") from error

    def contended(self, slowdown: float = 1.0) -> Measurement:
        """The same of a machine that was `slowdown` times as slow as it is otherwise; not to be relied on."""
        return replace(
            self,
            value=round(self.value / slowdown),
            minimum=round(self.minimum / slowdown),
            median=round(self.median / slowdown),
            mad=round(self.mad / slowdown),
            relative_half_width=max(self.relative_half_width or 0.0, slowdown - 1),
            status="contended",
        )
