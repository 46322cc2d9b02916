"""What a case is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.results.schema import Figure, Profile
from netadapt.search.observer import Observer


@dataclass(frozen=True)
class Case:
    """One entry of the registry, in one profile."""

    id: str
    version: int
    profile: Profile
    parameters: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Bench:
    """What a case works with.

    `work` is a folder of the case's own, shared by all platforms and profiles and kept between runs: what is in it
    (trained networks) need not be done again. `session` is a folder for what has to be measured again in the next run;
    it belongs to one platform and profile, and is removed when the run is finished.
    """

    case: Case
    device: Device
    table: Table
    work: Path
    session: Path
    observer: Observer = field(default_factory=Observer)

    @property
    def repeatable(self) -> bool:
        """Whether the platform's clock gives the same digits every time, so that every difference means something."""
        return self.device.platform.tier == "simulated"


@dataclass(frozen=True)
class Findings:
    """What a case found.

    `figures` and `data` come from the platform's clock and from trained networks alone; `host_figures` and `host_data`
    from the clock of this machine. `headline` names the figure whose samples, in ns, pytest-benchmark is shown.
    """

    figures: Mapping[str, Figure]
    data: Mapping[str, Any]
    headline: str
    host_figures: Mapping[str, Figure] = field(default_factory=dict)
    host_data: Mapping[str, Any] = field(default_factory=dict)
