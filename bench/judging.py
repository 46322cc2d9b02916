"""A new run against what was committed before: the newest results of each case that it can be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import ResultsError
from netadapt.results.compare import CaseComparison, GateOutcome, gate
from netadapt.results.files import by_age, find_results, read_result
from netadapt.results.schema import CaseResult, ResultFile


@dataclass(frozen=True)
class Baselines:
    """Runs to judge by, the newest first, with their files."""

    runs: tuple[tuple[Path, ResultFile], ...]

    @classmethod
    def of_folder(cls, results: Path, platform: str) -> Baselines:
        """The results of a platform in a folder of platforms; none where there is no such folder.

        Raises:
            ResultsError: a file cannot be read.

        """
        folder = results / platform
        paths = find_results(folder) if folder.is_dir() else []
        runs = [(path, read_result(path)) for path in paths]
        return cls(tuple(sorted(runs, key=lambda entry: by_age(*entry), reverse=True)))

    @classmethod
    def of_file(cls, path: Path, platforms: Sequence[str]) -> Baselines:
        """One file of results, and the one beside it of the same run's other clock.

        Raises:
            ResultsError: it cannot be read, or is of none of the platforms.

        """
        other = path.with_name(path.name.replace(".json", ".host.json"))
        runs = [(file, read_result(file)) for file in (path, other) if file == path or file.is_file()]
        if runs[0][1].platform not in platforms:
            raise ResultsError(
                f"{path}: is of platform {runs[0][1].platform}, which is not among those that are run:"
                f" {', '.join(platforms)}"
            )
        return cls(tuple(runs))

    def of_case(self, new: ResultFile, case: CaseResult) -> tuple[Path, ResultFile] | None:
        """The newest run that a case can be compared with; else the newest that at least has it; None for none."""
        having = [(path, old) for path, old in self.runs if _clock(old) == _clock(new) and _case_of(old, case)]
        alike = [(path, old) for path, old in having if _is_alike(old, new, case)]
        return next(iter(alike or having), None)


@dataclass(frozen=True)
class CaseJudgement:
    """What the gate says of one case, and the file that it was judged by."""

    case: str
    baseline: Path | None
    outcome: GateOutcome

    @property
    def comparison(self) -> CaseComparison | None:
        """How the case compares, if there was something to compare it with."""
        return self.outcome.comparison.cases[0] if self.outcome.comparison else None


def judge(new: ResultFile, baselines: Baselines, strict: bool) -> list[CaseJudgement]:
    """Judge each case of a run, by the clock that the run was read by."""
    judgements = []
    for case in new.cases:
        found = baselines.of_case(new, case)
        old = _only(found[1], case) if found else None
        judgements.append(CaseJudgement(case.id, found[0] if found else None, gate(_only(new, case), old, strict)))
    return judgements


def _clock(run: ResultFile) -> tuple[str, str]:
    return run.platform, run.clock


def _only(run: ResultFile, case: CaseResult) -> ResultFile:
    return run.model_copy(update={"cases": (_case_of(run, case),)})


def _case_of(run: ResultFile, case: CaseResult) -> CaseResult | None:
    return next((other for other in run.cases if other.id == case.id), None)


def _is_alike(old: ResultFile, new: ResultFile, case: CaseResult) -> bool:
    before = _case_of(old, case)
    assert before is not None
    facts = [(run.fingerprint, run.profile, run.tier, run.protocol_version) for run in (old, new)]
    return facts[0] == facts[1] and (before.version, before.digest) == (case.version, case.digest)
