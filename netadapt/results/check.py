"""Whether results can be published: the submission checker, after that of MLPerf Tiny."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from netadapt.errors import NetAdaptError, ResultsError, UnknownNameError
from netadapt.measure.platform import load_platform
from netadapt.results.figures import CLOCKED_ORIGINS, faults_of_figure, is_noisy
from netadapt.results.files import CARD_NAME, find_results, is_name_of, read_card, read_result, run_stem, to_text
from netadapt.results.personal import personal_words
from netadapt.results.schema import PlatformCard, ResultFile

Severity = Literal["unreadable", "error", "warning"]

#: Share of the figures that a clock has a part in that may be noisy.
MOST_NOISY = 1 / 3
#: Clocks of machines differ.
_FUTURE = timedelta(days=1)
_MOST_NAMED = 5
#: Fields of a definition's section rpc that say where somebody's boards are.
_ADDRESSES = ("server", "tracker")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file, or that its readers should know."""

    severity: Severity
    path: Path
    #: Field, or case and figure.
    where: str
    what: str


#: A finding of a file that is known from the context.
_Remark = tuple[Severity, str, str]


def check(paths: Sequence[Path]) -> tuple[list[Path], list[Finding]]:
    """Check runs, given as files, folders of platforms or folders of those: what was checked, and what was found.

    Raises:
        ResultsError: there is nothing at one of the paths, or no run; or the checkout's lock file is damaged.

    """
    runs = list(dict.fromkeys(run for path in paths for run in find_results(path)))
    if not runs:
        raise ResultsError(
            f"{', '.join(map(str, paths))}: there are no runs (<date>-<commit>.json); other files are left alone"
        )
    findings = [finding for run in runs for finding in check_file(run)]
    cards = [card for card in dict.fromkeys(run.with_name(CARD_NAME) for run in runs) if card.is_file()]
    return runs, findings + [finding for card in cards for finding in check_card(card)] + _duplicates(runs)


def check_card(path: Path) -> list[Finding]:
    """Check the card of a platform; whether it fits the runs beside it is checked with those."""
    try:
        card = read_card(path)
    except ResultsError as error:
        return [Finding("unreadable", path, "file", _without_path(error, path))]
    remarks = list(_of_personal_data(card))
    rpc = card.definition.get("rpc")
    rpc = rpc if isinstance(rpc, dict) else {}
    remarks += [("error", f"definition.rpc.{field}", "is an address") for field in _ADDRESSES if rpc.get(field)]
    return [Finding(severity, path, where, what) for severity, where, what in remarks]


def check_file(path: Path) -> list[Finding]:
    """Check one run, and the card of its platform beside it; what cannot be read is a finding as well."""
    try:
        result = read_result(path)
    except ResultsError as error:
        return [Finding("unreadable", path, "file", _without_path(error, path))]
    lock = _lock_of(path)
    remarks = [
        *_of_file(result, path),
        *_of_card(result, path),
        *_of_platform(result),
        *_of_origin(result),
        *_of_cases(result),
        *(_of_registry(result, lock) if lock is not None else ()),
        *_of_noise(result),
        *_of_personal_data(result),
    ]
    return [Finding(severity, path, where, what) for severity, where, what in remarks]


def _of_file(result: ResultFile, path: Path) -> Iterator[_Remark]:
    if not is_name_of(path.name, result):
        yield "error", "file", f"its name is not that of run {run_stem(result)} read by the clock {result.clock}"
    if path.read_bytes() != to_text(result).encode():
        yield "warning", "file", "its layout is not the one that netadapt writes"


def _of_card(result: ResultFile, path: Path) -> Iterator[_Remark]:
    card_path = path.with_name(CARD_NAME)
    if not card_path.is_file():
        yield "error", "platform", f"there is no {CARD_NAME} beside it that says what it was measured on"
        return
    try:
        card = read_card(card_path)
    except ResultsError:
        # That is told once, of the card.
        return
    if card.name != result.platform or path.absolute().parent.name != result.platform:
        folder = path.absolute().parent.name
        yield "error", "platform", f"{result.platform} lies in folder {folder}, beside the card of {card.name}"
    if result.clock == "host":
        return
    if card.tier != result.tier:
        yield "error", "tier", f"{result.tier}, but {card.tier} in {CARD_NAME}"
    if card.fingerprint != result.fingerprint:
        yield (
            "warning",
            "fingerprint",
            f"{result.fingerprint}, but {card.fingerprint} in {CARD_NAME}: the platform has changed since",
        )


def _of_platform(result: ResultFile) -> Iterator[_Remark]:
    if result.clock == "host" and result.tier != "local":
        yield (
            "error",
            "tier",
            f"{result.tier}, but what the clock of the host says is of tier local",
        )
    try:
        tier = load_platform(result.platform).tier
    except UnknownNameError:
        yield "warning", "platform", f"{result.platform} is not known here; it may be somebody's own"
        return
    except NetAdaptError as error:
        yield "warning", "platform", f"the definition of {result.platform} cannot be read here: {error}"
        return
    if result.clock == "platform" and result.tier != tier:
        yield "error", "tier", f"{result.tier}, but platform {result.platform} is of tier {tier}"


def _of_origin(result: ResultFile) -> Iterator[_Remark]:
    made = result.made
    try:
        if date.fromisoformat(made.date) > date.today() + _FUTURE:
            yield "error", "made.date", f"{made.date} is in the future"
        time.fromisoformat(made.time or "00:00:00")
    except ValueError:
        yield "error", "made.date", f"{made.date!r}, {made.time!r} is not a date and a time"
    if made.commit and made.commit.endswith("+dirty"):
        yield "warning", "made.commit", "made by code that was never committed; nobody can repeat it"
    if result.requested != result.platform:
        yield "warning", "requested", f"{result.requested} was asked for, {result.platform} was used"
    if result.profile == "smoke":
        yield "error", "profile", "smoke only shows that cases run; measure with quick or full"


def _of_cases(result: ResultFile) -> Iterator[_Remark]:
    if not result.cases:
        yield "error", "cases", "there is none"
    counts = Counter(case.id for case in result.cases)
    yield from (("error", case, f"is there {count} times") for case, count in counts.items() if count > 1)
    for case in result.cases:
        for name, figure in case.figures.items():
            faults = faults_of_figure(figure, result.tier)
            yield from (("error", f"{case.id}, {name}", fault) for fault in faults)


def _of_registry(result: ResultFile, lock: dict[str, Any]) -> Iterator[_Remark]:
    """Compare with the cases of the checkout; earlier versions are no longer in its lock file."""
    for case in result.cases:
        locked = lock.get(case.id)
        if locked is None:
            yield "warning", case.id, "is not a case of this checkout"
        elif case.version > locked["version"]:
            yield "warning", case.id, f"has version {case.version}, this checkout has only {locked['version']}"
        elif case.version == locked["version"] and case.digest != locked.get(result.profile, case.digest):
            here = locked[result.profile]
            yield "warning", case.id, f"has digest {case.digest}, this checkout has {here} for the same version"


def _of_noise(result: ResultFile) -> Iterator[_Remark]:
    clocked = [
        (f"{case.id}, {name}", figure)
        for case in result.cases
        for name, figure in case.figures.items()
        if figure.origin in CLOCKED_ORIGINS
    ]
    noisy = [where for where, figure in clocked if is_noisy(figure)]
    if noisy:
        named = "; ".join(noisy[:_MOST_NAMED]) + (f" and {len(noisy) - _MOST_NAMED} more" * (len(noisy) > _MOST_NAMED))
        advice = "; measure again on a quieter machine" if len(noisy) > MOST_NOISY * len(clocked) else ""
        severity: Severity = "error" if advice else "warning"
        yield severity, "noise", f"{len(noisy)} of {len(clocked)} figures of clocks are noisy{advice}: {named}"


def _of_personal_data(content: ResultFile | PlatformCard) -> Iterator[_Remark]:
    for place, word in personal_words(content.model_dump(mode="json")):
        yield "error", place, f"names a host, a user or a folder: {word!r}"


def _duplicates(runs: Sequence[Path]) -> list[Finding]:
    """Files with the same content: a deterministic run that was done twice, or a copy."""
    first: dict[bytes, Path] = {}
    findings = []
    for run in runs:
        content = run.read_bytes()
        if content in first:
            findings.append(Finding("warning", run, "file", f"is the same as {first[content].name}; remove one"))
        first.setdefault(content, run)
    return findings


def _lock_of(path: Path) -> dict[str, Any] | None:
    """Versions and digests of the cases of the checkout that this package or the results are in; None for neither."""
    package = resources.files("netadapt")
    folders = [*([package.parent] if isinstance(package, Path) else []), *path.absolute().parents]
    locks = (folder / "bench" / "cases.lock" for folder in folders)
    return next((_read_lock(lock) for lock in locks if lock.is_file()), None)


@cache
def _read_lock(path: Path) -> dict[str, Any]:
    try:
        lock: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read ({error}); restore it from git") from error
    return lock


def _without_path(error: ResultsError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
