"""What a results file holds: one run of benchmark cases on one platform, read by one clock.

A run writes two files. `<date>-<commit>.json` has what the platform's clock and the trained networks tell; on a
simulated platform it is the same, digit by digit, each time, but for date, time and commit. Another machine gives the
same latencies, and the same trained networks with the same torch and vector extension (`environment`).
`<date>-<commit>.host.json` has what the work took on the machine that did it. So tiers never mix in a file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from netadapt.measure.definitions import Section
from netadapt.measure.measurement import Status, Tier

#: Raise it when a field changes its meaning; readers refuse what is newer.
SCHEMA_VERSION = 1

Clock = Literal["platform", "host"]
Profile = Literal["smoke", "quick", "full"]
#: How a number came about.
Origin = Literal["measured", "predicted", "counted", "evaluated", "published", "derived"]
Better = Literal["lower", "higher", "neither"]

_Numbers = Annotated[tuple[float, ...], Field(strict=False)]


class Figure(Section):
    """One number of a case."""

    value: float
    #: "ns", "pJ", "s", "bytes", "ratio", "share" (of 1), "count".
    unit: str
    #: Which direction is an improvement; figures with "neither" are not judged.
    better: Better
    origin: Origin
    #: 95 % confidence interval of `value`, where there is one.
    low: float | None = None
    high: float | None = None
    #: Raw samples in `unit`, one a round, in the order they were taken.
    samples: _Numbers = ()
    #: Cost of the fixed reference model in ns, taken in turn with each sample: what changes both is the machine.
    reference_ns: _Numbers = ()
    status: Status = "converged"
    #: Largest difference in `unit` that says nothing, for a figure without samples.
    tolerance: float = Field(default=0.0, ge=0)


class CaseResult(Section):
    """What one case found."""

    id: str
    version: int = Field(ge=1)
    #: Of everything that decides what the case measures (bench/registry.py).
    digest: str
    parameters: dict[str, Any]
    figures: dict[str, Figure]
    #: What figures and pictures are made of; its fields by case are in docs/benchmarks.md.
    data: dict[str, Any]


class Made(Section):
    """When, and by what version."""

    #: Day, ISO 8601 (UTC).
    date: str
    #: Time of that day, such as "16:25:07" (UTC): of two runs of one day it tells the later one. None is before all.
    time: str | None = None
    #: Commit of the checkout; None when installed. Ends in "+dirty" when the package differed from it.
    commit: str | None
    netadapt: str


class ResultFile(Section):
    """One run of cases on one platform, read by one clock."""

    schema_version: int
    platform: str
    #: The platform asked for; differs from `platform` after a fallback.
    requested: str
    tier: Tier
    #: Of the platform; with clock "host", of the machine that did the work.
    fingerprint: str
    clock: Clock
    profile: Profile
    protocol_version: int
    made: Made
    #: Versions and machine, without names of host or user. With a simulated clock: only what decides the digits.
    environment: dict[str, str]
    cases: Annotated[tuple[CaseResult, ...], Field(strict=False)]


class PlatformCard(Section):
    """`platform.json`: what the numbers beside it were measured on."""

    schema_version: int
    name: str
    title: str
    tier: Tier
    fingerprint: str
    #: The definition, as `netadapt platforms show --json` tells it.
    definition: dict[str, Any]
