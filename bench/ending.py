"""The end of a run: complete results are written and judged, and what is missing is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.judging import Baselines, CaseJudgement, judge
from bench.session import BenchRun
from netadapt.errors import ResultsError
from netadapt.measure.device import Device
from netadapt.results.schema import ResultFile
from netadapt.results.verdicts import FigureComparison

#: Verdicts on figures, in the order in which they are told.
_ORDER = ("SLOWER", "WORSE", "AMBIGUOUS", "FASTER", "BETTER", "SAME", "NOT JUDGED")
_WORTH_A_LINE = _ORDER[:5]


@dataclass
class Ending:
    """What came of a run."""

    work: Path
    #: By platform.
    written: dict[str, list[Path]] = field(default_factory=dict)
    judged: dict[str, list[tuple[ResultFile, CaseJudgement]]] = field(default_factory=dict)
    #: Cases that failed or were not run, by platform.
    missing: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """What pytest ends with: 2 when results could not be written or read, 1 when the gate is shut."""
        if self.errors:
            return 2
        judgements = [judgement for pairs in self.judged.values() for _, judgement in pairs]
        return 0 if all(judgement.outcome.passed for judgement in judgements) and not self.missing else 1

    def lines(self) -> Iterator[str]:
        """What is said at the end."""
        for platform, paths in self.written.items():
            yield from (f"wrote {path}" for path in paths)
            yield from _table(self.judged.get(platform, []))
        for platform, cases in self.missing.items():
            yield (
                f"no results of {platform} are written: {', '.join(cases)} missing. What the other cases found is kept"
                f" in {self.work}; the same command goes on there"
            )
        yield from (f"error: {error}" for error in self.errors)


def end(run: BenchRun, baselines: Mapping[str, Baselines], strict: bool, checkout: Path) -> Ending:
    """Write and judge the results of each platform of which every case was run."""
    ending = Ending(run.wanted.work)
    for device in run.devices:
        name = device.platform.name
        missing = [job.case.id for job in run.jobs_on(device) if not run.is_found(job)]
        if missing:
            ending.missing[name] = missing
            continue
        try:
            _write_and_judge(run, device, baselines[name], strict, checkout, ending)
        except ResultsError as error:
            ending.errors.append(str(error))
    return ending


def _write_and_judge(
    run: BenchRun, device: Device, baselines: Baselines, strict: bool, checkout: Path, ending: Ending
) -> None:
    results = run.results(device, checkout)
    name = device.platform.name
    ending.written[name] = run.write(device, results)
    ending.judged[name] = [(result, judgement) for result in results for judgement in judge(result, baselines, strict)]


def _table(judged: list[tuple[ResultFile, CaseJudgement]]) -> Iterator[str]:
    if not judged:
        return
    first = judged[0][0]
    yield f"{first.platform} (tier: {first.tier}), profile {first.profile}, against what was there before:"
    width = max(len(judgement.case) for _, judgement in judged)
    for result, judgement in judged:
        by = f", by {judgement.baseline}" if judgement.baseline else ""
        gate = "" if judgement.outcome.passed else "FAILED: "
        yield f"  {judgement.case:{width}}  {result.clock + ' clock':14}  {gate}{_verdict(judgement)}{by}"
        yield from (f"      {line}" for line in _details(judgement))


def _details(judgement: CaseJudgement) -> Iterator[str]:
    """What of a case is worth a line of its own."""
    comparison = judgement.comparison
    if comparison is None:
        return
    yield from (_figure(figure) for figure in comparison.figures if figure.verdict in _WORTH_A_LINE)
    yield from (f"NOT COMPARABLE {name}: only the baseline has it" for name in comparison.only_a)


def _verdict(judgement: CaseJudgement) -> str:
    comparison = judgement.comparison
    if comparison is None:
        return "NO BASELINE, nothing was judged"
    if comparison.not_comparable:
        return f"NOT COMPARABLE ({'; '.join(comparison.not_comparable)})"
    verdicts = [figure.verdict for figure in comparison.figures]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in _ORDER if verdict in verdicts]
    return ", ".join(counts) or "no figures"


def _figure(figure: FigureComparison) -> str:
    ratio = "" if figure.ratio is None else f", {figure.ratio:.3f} times"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    values = f"{figure.a:,.6g} -> {figure.b:,.6g} {figure.unit}"
    return f"{figure.verdict} {figure.name}: {values}{ratio}{interval}; {figure.reason}"
