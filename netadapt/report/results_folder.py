"""Choose from results files what a report shows: of each case the fullest run, and of those the newest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from netadapt.errors import ResultsError
from netadapt.results.files import CARD_NAME, by_age, find_results, read_card, read_result
from netadapt.results.schema import CaseResult, Clock, PlatformCard, Profile, ResultFile

_FULLNESS = get_args(Profile)


@dataclass(frozen=True)
class Found:
    """A case of a results file."""

    path: Path
    file: ResultFile
    case: CaseResult


@dataclass(frozen=True)
class PlatformResults:
    """What there is of one platform: of each clock, one run of each case."""

    name: str
    card: PlatformCard | None
    by_platform: dict[str, Found]
    by_host: dict[str, Found]

    @property
    def all(self) -> list[Found]:
        """All cases, those by the platform's clock first."""
        return [*self.by_platform.values(), *self.by_host.values()]


def read_platforms(source: Path) -> list[PlatformResults]:
    """Read a results file, a platform's folder, or a folder of platforms; sorted by platform.

    The run that is shown of a case is that of the fullest profile, then the newest.

    Raises:
        ResultsError: there are no results, or one of them cannot be read.

    """
    paths = find_results(source)
    if not paths:
        raise ResultsError(f"{source}: neither the folder of a run (config.json) nor results of benchmark cases")
    files = [(path, read_result(path)) for path in paths]
    names = sorted({file.platform for _, file in files})
    return [_platform(name, [(path, file) for path, file in files if file.platform == name]) for name in names]


def _platform(name: str, files: list[tuple[Path, ResultFile]]) -> PlatformResults:
    tiers = {file.tier for _, file in files if file.clock == "platform"}
    if len(tiers) > 1:
        raise ResultsError(f"{files[0][0].parent}: results of platform {name} are of tiers {', '.join(sorted(tiers))}")
    cards = [path.parent / CARD_NAME for path, _ in files if (path.parent / CARD_NAME).is_file()]
    card = read_card(cards[0]) if cards else None
    return PlatformResults(
        name,
        card if card and card.name == name else None,
        _best(files, "platform"),
        _best(files, "host"),
    )


def _best(files: Iterable[tuple[Path, ResultFile]], clock: Clock) -> dict[str, Found]:
    of_clock = [(path, file) for path, file in files if file.clock == clock]
    of_clock.sort(key=lambda entry: (_FULLNESS.index(entry[1].profile), by_age(*entry)))
    return {case.id: Found(path, file, case) for path, file in of_clock for case in file.cases}
