"""A run of benchmark cases on some platforms: what is to be done, what has been found, what is written at its end.

What a case found is kept at once, so a run that was stopped goes on where it was. When the results of a platform have
been written, what was kept of its run is removed: the next run measures again. Trained networks stay (`Bench.work`).
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from bench.case import Bench, Case, Findings
from bench.provenance import code_digest, host_environment, host_fingerprint, made, platform_environment
from bench.registry import CASES, PROFILES, load_registry
from netadapt.errors import CaseError, MeasurementError, ResultsError, UnknownNameError
from netadapt.files import write_atomically
from netadapt.lut.store import Table
from netadapt.measure.device import Device, open_device
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.results.files import require_writable, write_run
from netadapt.results.schema import (
    SCHEMA_VERSION,
    CaseResult,
    Clock,
    Figure,
    PlatformCard,
    Profile,
    ResultFile,
)
from netadapt.search.observer import Observer

_FINDINGS = TypeAdapter(Findings)
#: Limits of a smoke test, which wants no good numbers, in s.
_HASTE = {"workload_time_limit_s": 0.02, "network_time_limit_s": 0.1}


@dataclass(frozen=True)
class Wanted:
    """What is asked of a run."""

    profile: Profile
    platforms: tuple[str, ...]
    work: Path
    #: Where results are written; None for a run of which none are kept.
    results: Path | None
    #: Ids of cases; none are all that fit.
    cases: tuple[str, ...] = ()
    registry: Path = CASES


@dataclass(frozen=True)
class Job:
    """One case on one platform."""

    case: Case
    device: Device

    @property
    def id(self) -> str:
        """What the test of this job is called."""
        return f"{self.case.id}-{self.device.requested}"

    @property
    def title(self) -> str:
        """What is said of it when it begins."""
        platform = self.device.platform
        return f"{self.case.id} on {platform.name} (tier: {platform.tier}), profile {self.case.profile}"


class BenchRun:
    """A run. Close it, or use it as a context manager.

    Args:
        wanted: what is to be run.
        on_fallback: see `open_device`.

    Raises:
        CaseError, UnknownNameError: there is no such case, platform or profile, or no case fits a platform.
        DefinitionError: a registry or definition that cannot be used.
        MeasurementError: a platform is not available, or has no clock.
        ResultsError: results could not be written at the end.

    """

    def __init__(self, wanted: Wanted, on_fallback: Callable[[str, str, str], None] | None = None) -> None:
        if wanted.profile not in PROFILES:
            raise UnknownNameError("profile", wanted.profile, PROFILES)
        self.wanted = wanted
        self._registry = load_registry(wanted.registry)
        for case_id in wanted.cases:
            self._registry.entry(case_id)
        with ExitStack() as opened:
            names = dict.fromkeys(wanted.platforms)
            devices = [opened.enter_context(_open(name, wanted.profile, on_fallback)) for name in names]
            if wanted.results:
                platforms = [device.platform for device in devices]
                require_writable(wanted.results, {platform.name: platform.tier for platform in platforms})
            self.jobs = [job for device in devices for job in self._jobs_for(device)]
            self._table = opened.enter_context(Table.open(wanted.work / "table.sqlite"))
            self._open = opened.pop_all()

    @property
    def devices(self) -> list[Device]:
        """The platforms, each open."""
        return list(dict.fromkeys(job.device for job in self.jobs))

    def jobs_on(self, device: Device) -> list[Job]:
        """The cases on one platform."""
        return [job for job in self.jobs if job.device is device]

    def findings(self, job: Job, observer: Observer) -> Findings:
        """What a case finds, or has found already in this run.

        Raises:
            CaseError: the code of the case is missing, or what it found cannot be written down.
            NetAdaptError: the case failed.

        """
        kept = self._kept(job)
        kept.claim()
        if kept.findings is None:
            bench = Bench(
                case=job.case,
                device=job.device,
                table=self._table,
                work=_made(self.wanted.work / job.case.id),
                session=_made(kept.folder / "session"),
                observer=observer,
            )
            kept.keep(self._code_of(job.case).run(bench))
        if kept.findings is None:
            raise CaseError(f"{kept.folder}: what {job.id} found was removed meanwhile; run it again")
        return kept.findings

    def is_found(self, job: Job) -> bool:
        """Whether a case need not be run again in this run."""
        return self._kept(job).findings is not None

    def results(self, device: Device, checkout: Path) -> list[ResultFile]:
        """What the cases found on a platform, one file for each clock that told something.

        Args:
            device: the platform; all its cases must have been run.
            checkout: the folder of the sources.

        """
        by_clock: dict[Clock, list[CaseResult]] = {"platform": [], "host": []}
        for job in self.jobs_on(device):
            findings = self._kept(job).findings
            assert findings is not None
            by_clock["platform"].append(_case_result(job.case, findings.figures, findings.data))
            if findings.host_figures or findings.host_data:
                by_clock["host"].append(_case_result(job.case, findings.host_figures, findings.host_data))
        return [self._result_file(device, clock, cases, checkout) for clock, cases in by_clock.items() if cases]

    def write(self, device: Device, results: list[ResultFile]) -> list[Path]:
        """Write the results of a platform, which ends its run.

        Raises:
            ResultsError: they cannot be written; what was found is kept.

        """
        if self.wanted.results is None:
            raise ResultsError("this run keeps no results")
        paths = write_run(self.wanted.results, results, _card(device))
        for job in self.jobs_on(device):
            shutil.rmtree(self._kept(job).folder)
        return paths

    def close(self) -> None:
        """Close all platforms and the table."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _jobs_for(self, device: Device) -> Iterator[Job]:
        tier = device.platform.tier
        ids = [
            case_id
            for case_id in self.wanted.cases or self._registry.ids
            if tier in self._registry.entry(case_id).tiers
        ]
        if not ids:
            raise CaseError(
                f"none of the cases {', '.join(self.wanted.cases)} is for platforms of tier {tier}, such as"
                f" {device.platform.name}"
            )
        return (Job(self._registry.case(case_id, self.wanted.profile), device) for case_id in dict.fromkeys(ids))

    def _kept(self, job: Job) -> _Kept:
        key = f"{job.case.digest} {job.device.fingerprint} {code_digest()}"
        folder = self.wanted.work / "unfinished" / job.device.requested / self.wanted.profile / job.case.id
        return _Kept(folder, key)

    def _code_of(self, case: Case) -> Any:
        root = self._registry.path.absolute().parent
        if str(root.parent) not in sys.path:
            sys.path.append(str(root.parent))
        module = importlib.import_module(f"{root.name}.cases.{case.id}")
        if Path(str(module.__file__)).parent.parent != root:
            raise CaseError(f"the code of case {case.id} was found in {module.__file__}, not in {root}")
        return module

    def _result_file(self, device: Device, clock: Clock, cases: list[CaseResult], checkout: Path) -> ResultFile:
        host = clock == "host"
        return ResultFile(
            schema_version=SCHEMA_VERSION,
            platform=device.platform.name,
            requested=device.requested,
            tier="local" if host else device.platform.tier,
            fingerprint=host_fingerprint() if host else device.fingerprint,
            clock=clock,
            profile=self.wanted.profile,
            protocol_version=PROTOCOL_VERSION,
            made=made(checkout),
            environment=host_environment() if host else platform_environment(device),
            cases=tuple(cases),
        )


class _Kept:
    """What is kept of a case until its run is finished; `key` says which code made it, on what."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key

    def claim(self) -> None:
        """Remove what was made by other code or on something else."""
        if self._is_ours:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        write_atomically(self.folder / "key", self._key.encode())

    @property
    def findings(self) -> Findings | None:
        """What the case found, if it has been run."""
        if not self._is_ours:
            return None
        try:
            return _FINDINGS.validate_json((self.folder / "findings.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def keep(self, findings: Findings) -> None:
        """Write down what the case found.

        Raises:
            CaseError: it holds what JSON cannot.

        """
        try:
            content = json.dumps(_FINDINGS.dump_python(findings, mode="json"), allow_nan=False)
        except ValueError as error:
            raise CaseError(f"findings that cannot be written as JSON: {error}") from error
        if findings.headline not in {**findings.figures, **findings.host_figures}:
            raise CaseError(f"there is no figure {findings.headline!r}, which the findings call their headline")
        write_atomically(self.folder / "findings.json", content.encode())

    @property
    def _is_ours(self) -> bool:
        try:
            return (self.folder / "key").read_text(encoding="utf-8") == self._key
        except OSError:
            return False


def headline(findings: Findings) -> Figure:
    """The figure that stands for the case."""
    return {**findings.host_figures, **findings.figures}[findings.headline]


def _open(name: str, profile: Profile, on_fallback: Callable[[str, str, str], None] | None) -> Device:
    platform = load_platform(name)
    if profile == "smoke":
        platform = platform.model_copy(update={"protocol": platform.protocol.model_copy(update=_HASTE)})
    device = open_device(platform, on_fallback=on_fallback) if platform.tier != "emulated" else None
    if device is not None and device.platform.tier != "emulated":
        return device
    raise MeasurementError(
        f"platform {name} is of tier emulated: it checks that a device works, but has no clock that tells a latency;"
        " choose another (netadapt platforms list)"
    )


def _case_result(case: Case, figures: Mapping[str, Figure], data: Mapping[str, Any]) -> CaseResult:
    return CaseResult(
        id=case.id,
        version=case.version,
        digest=case.digest,
        parameters=dict(case.parameters),
        figures=dict(figures),
        data=dict(data),
    )


def _card(device: Device) -> PlatformCard:
    platform = device.platform
    return PlatformCard(
        schema_version=SCHEMA_VERSION,
        name=platform.name,
        title=platform.title,
        tier=platform.tier,
        fingerprint=device.fingerprint,
        definition=_public(platform.model_dump(mode="json")),
    )


def _public(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition without what tells of its user: addresses of boards, folders of the file system."""
    public: dict[str, Any] = {}
    for name, value in definition.items():
        if isinstance(value, dict):
            public[name] = _public(value)
        elif name in ("server", "tracker") and value is not None:
            public[name] = "its user's"
        else:
            public[name] = Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value
    return public


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
