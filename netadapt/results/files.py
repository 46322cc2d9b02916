"""Results as files: where they lie, what they are called, how they are written, and how damage is told.

    results/<platform>/platform.json            what the numbers beside it were measured on
    results/<platform>/<date>-<commit>.json     a run of benchmark cases, by the platform's clock
    results/<platform>/<date>-<commit>.host.json  the same run, by the clock of the machine that did the work

The text is canonical (the same content gives the same bytes) and sealed: a digest of the content tells a file that
was edited by hand. That is a guard against mistakes, not against fraud.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from netadapt.errors import ResultsError
from netadapt.files import read_at_most, write_atomically
from netadapt.levels import is_deeper, levels
from netadapt.measure.definitions import faults_of
from netadapt.measure.measurement import Tier
from netadapt.results.schema import SCHEMA_VERSION, Clock, PlatformCard, Profile, ResultFile

CARD_NAME = "platform.json"

#: Runs begin with their date. What else lies in a folder of results (single figures of one command, tables, texts) has
#: no seal and no schema of ours, and is left alone.
_RUN_NAME = re.compile(r"(?P<run>\d{4}-\d{2}-\d{2}-.+?)(?:-(?P<number>[1-9]\d?))?(?P<host>\.host)?\.json")

#: As in a definition; it becomes the name of a folder.
_PLATFORM_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

#: Longest line that something nested is put on; lists and objects of plain values are never broken.
_LINE_LENGTH = 110

#: Of a file to read; a hundred times the largest that was written.
_MOST_BYTES = 1 << 24
_MOST_DEPTH = 32

_Content = TypeVar("_Content", ResultFile, PlatformCard)


def is_run_name(name: str) -> bool:
    """Whether a file of this name is a run of cases (`<date>-<commit>.json`)."""
    return _RUN_NAME.fullmatch(name) is not None


def is_name_of(name: str, result: ResultFile) -> bool:
    """Whether a file of this name can hold that run: date, commit and clock agree."""
    match = _RUN_NAME.fullmatch(name)
    return match is not None and match["run"] == run_stem(result) and bool(match["host"]) == (result.clock == "host")


def run_stem(result: ResultFile) -> str:
    """`<date>-<commit>` of a run; where there is no checkout, `<date>-v<version>`."""
    return f"{result.made.date}-{result.made.commit or f'v{result.made.netadapt}'}"


def read_result(path: Path) -> ResultFile:
    """Read one run.

    Raises:
        ResultsError: it cannot be read, is truncated, of a newer schema, edited by hand, or not such a file.

    """
    return _read(path, ResultFile)


def read_card(path: Path) -> PlatformCard:
    """Read a `platform.json`.

    Raises:
        ResultsError: as `read_result`.

    """
    return _read(path, PlatformCard)


def write_run(root: Path, results: Sequence[ResultFile], card: PlatformCard) -> list[Path]:
    """Write the files of one run below `root`, and the platform's card beside them.

    An older card of the same platform is replaced; a run never is: a number is added to its name.

    Args:
        root: the folder of all platforms.
        results: what the platform's clock told, what this machine's told, or both.
        card: of the platform.

    Raises:
        ResultsError: the results are not of one run on that platform, hold what JSON cannot, or cannot be written.

    """
    _require_one_run(results, card)
    folder = root / card.name
    texts = {result.clock: to_text(result) for result in results}
    card_path, card_text = folder / CARD_NAME, to_text(card)
    _require_fitting_card(card_path, card.tier)
    try:
        paths = _claim(folder, run_stem(results[0]), list(texts))
        try:
            for path, text in zip(paths, texts.values(), strict=True):
                write_atomically(path, text.encode())
            write_atomically(card_path, card_text.encode())
        except BaseException:
            # Half a run is worse than none: it would pass for a whole one.
            for path in paths:
                path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _not_written(folder, error) from error
    return [card_path, *paths]


def require_writable(root: Path, platforms: Mapping[str, Tier] | None = None) -> None:
    """Make sure that results can be written below a folder, before the work for them is done.

    Args:
        root: the folder of all platforms.
        platforms: those whose results are to be written, with the tier of each; their cards must fit.

    Raises:
        ResultsError: they cannot.

    """
    for platform, tier in (platforms or {}).items():
        _require_fitting_card(root / platform / CARD_NAME, tier)
    probe = root / ".netadapt-probe"
    try:
        write_atomically(probe, b"")
        probe.unlink()
    except OSError as error:
        raise _not_written(root, error) from error


def _require_fitting_card(path: Path, tier: Tier) -> None:
    """What is there is replaced only if it is a card of the same tier."""
    if path.exists() and (there := read_card(path).tier) != tier:
        raise ResultsError(f"{path}: is of tier {there}, not {tier}; use another folder")


def find_results(path: Path) -> list[Path]:
    """Files of runs at a path: one file, the folder of a platform, or a folder of such folders; sorted.

    Raises:
        ResultsError: there is nothing at that path.

    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ResultsError(f"{path}: there is no such file or folder")
    runs = [*path.glob("*.json"), *path.glob("*/*.json")]
    return sorted((run for run in runs if is_run_name(run.name)), key=_by_name)


def newest(root: Path, platform: str, clock: Clock, profile: Profile | None = None) -> Path | None:
    """The newest run of a platform that was read by a clock, in a profile or in any; None if there is none.

    By date and time in the content, then by name.

    Raises:
        ResultsError: a run in the folder cannot be read.

    """
    folder = root / platform
    return _newest_in(folder, clock, profile) if folder.is_dir() else None


def pick_pair(a: Path, b: Path, clock: Clock = "platform") -> tuple[Path, Path]:
    """The runs that two paths stand for, each a file or the folder of a platform, whose newest it is.

    A folder gives a run of the clock and profile of the other; of two folders, the newest run of `clock` in B decides.

    Raises:
        ResultsError: there is nothing at a path, a run cannot be read, or a folder has none that fits.

    """
    if not b.is_file():
        other = read_result(a) if a.is_file() else None
        b = _pick(b, other.clock if other else clock, other.profile if other else None, besides=a)
    if not a.is_file():
        other = read_result(b)
        a = _pick(a, other.clock, other.profile, besides=b)
    return a, b


def _pick(folder: Path, clock: Clock, profile: Profile | None, besides: Path) -> Path:
    if not folder.is_dir():
        raise ResultsError(f"{folder}: there is no such file or folder")
    platforms = sorted({run.parent.name for run in find_results(folder)})
    if len(platforms) > 1:
        raise ResultsError(f"{folder}: has runs of several platforms; give one of {', '.join(platforms)}")
    found = _newest_in(folder, clock, profile, besides)
    if found is None:
        other = f" besides {besides}" if besides.is_file() else ""
        raise ResultsError(f"{folder}: there is no run of clock {clock}, profile {profile or 'any'}{other} to compare")
    return found


def _newest_in(folder: Path, clock: Clock, profile: Profile | None, besides: Path | None = None) -> Path | None:
    paths = [path for path in find_results(folder) if besides is None or path.resolve() != besides.resolve()]
    runs = [(path, read_result(path)) for path in paths]
    fitting = [(path, run) for path, run in runs if run.clock == clock and profile in (None, run.profile)]
    return max(fitting, key=lambda entry: by_age(*entry), default=(None, None))[0]


def by_age(path: Path, run: ResultFile) -> tuple[str, str, tuple[str, str, int, str]]:
    """Key that sorts runs of a platform, the newest last; names tell those of one second apart."""
    return run.made.date, run.made.time or "", _by_name(path)


def to_text(content: ResultFile | PlatformCard) -> str:
    """The canonical, sealed text of a file.

    Raises:
        ResultsError: it holds what JSON cannot, such as NaN or an array.

    """
    try:
        # As it will be read: the seal is of that, and keys that are numbers sort otherwise than as texts.
        fields = json.loads(json.dumps(content.model_dump(), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ResultsError(f"results cannot be written as JSON: {error}") from error
    return layout({**fields, "seal": seal(fields)}) + "\n"


def seal(fields: Mapping[str, Any]) -> str:
    """Digest of the content of a file, whatever its layout."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def layout(value: Any, indent: str = "") -> str:
    """JSON with sorted keys of which a line is one thing: a figure's samples, the widths of a network."""
    flat = json.dumps(value, sort_keys=True, allow_nan=False)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(entry, dict | list) for entry in inner) or len(indent) + len(flat) <= _LINE_LENGTH:
        return flat
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {layout(value[key], deeper)}" for key in sorted(value)]
    else:
        lines = [layout(entry, deeper) for entry in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"


def _read(path: Path, kind: type[_Content]) -> _Content:
    fields = read_sealed(path)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "".join(f"\n  {fault}" for fault in faults_of(error))
        raise ResultsError(f"{path}: not a file of schema_version {SCHEMA_VERSION}:{faults}") from error


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a sealed file, as plain values without the seal.

    Raises:
        ResultsError: it cannot be read, is truncated, has no seal, is of a newer schema, or was edited.

    """
    fields = _parse(path)
    version = fields.get("schema_version")
    if type(version) is not int or "seal" not in fields:
        raise ResultsError(f"{path}: not a results file of netadapt (it has no schema_version or no seal)")
    if version > SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: has schema_version {version}, this netadapt reads up to {SCHEMA_VERSION}; update netadapt"
        )
    claimed = fields.pop("seal")
    if claimed != seal(fields):
        raise ResultsError(
            f"{path}: was changed after it was written (its seal does not fit); restore it, or run the cases again"
        )
    return fields


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = read_at_most(path, _MOST_BYTES).decode("utf-8").replace("\r\n", "\n")
        fields = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        if not error.doc[error.pos :].strip() or not text.rstrip().endswith("}"):
            raise ResultsError(f"{path}: is truncated (it ends in line {error.lineno}); restore it") from error
        raise ResultsError(f"{path}: not JSON: {error}; restore it") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: cannot be read as JSON: {error}; restore it") from error
    if not isinstance(fields, dict):
        raise ResultsError(f"{path}: not a results file of netadapt")
    if is_deeper(fields, _MOST_DEPTH):
        raise ResultsError(f"{path}: not a results file of netadapt: is nested more than {_MOST_DEPTH} levels deep")
    texts = (entry for level in levels(fields) for entry in level if isinstance(entry, str))
    if any("\ud800" <= sign <= "\udfff" for text in texts for sign in text):
        raise ResultsError(f"{path}: not a results file of netadapt: has a text with half a sign (\\ud800 to \\udfff)")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _require_one_run(results: Sequence[ResultFile], card: PlatformCard) -> None:
    if not results:
        raise ResultsError("there are no results to write")
    if len({result.clock for result in results}) < len(results):
        raise ResultsError("a run has at most one file for each clock")
    if len({run_stem(result) for result in results}) > 1:
        raise ResultsError("the results are of different runs: dates or commits differ")
    if not _PLATFORM_NAME.fullmatch(card.name):
        raise ResultsError(f"{card.name!r} is not the name of a platform")
    for result in results:
        if result.platform != card.name:
            raise ResultsError(f"the results are of platform {result.platform}, the card is of {card.name}")


def _claim(folder: Path, stem: str, clocks: Sequence[Clock]) -> list[Path]:
    """Make empty files under the first names of a run that are free for all its clocks."""
    folder.mkdir(parents=True, exist_ok=True)
    for candidate in _numbered(stem):
        names = {clock: folder / f"{candidate}{'.host' if clock == 'host' else ''}.json" for clock in _CLOCKS}
        if any(path.exists() for path in names.values()):
            continue
        claimed: list[Path] = []
        try:
            for clock in clocks:
                names[clock].touch(exist_ok=False)
                claimed.append(names[clock])
        except FileExistsError:
            for path in claimed:
                path.unlink()
            continue
        return claimed
    raise AssertionError("unreachable")


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


_CLOCKS: tuple[Clock, ...] = ("platform", "host")


def _by_name(path: Path) -> tuple[str, str, int, str]:
    """Order by folder and run; the tenth run of a name comes after the second."""
    match = _RUN_NAME.fullmatch(path.name)
    if match is None:
        return str(path.parent), path.name, 0, ""
    return str(path.parent), match["run"], int(match["number"] or 1), match["host"] or ""


def _not_written(folder: Path, error: OSError) -> ResultsError:
    return ResultsError(f"{folder}: results cannot be written there: {error.strerror or error}; nothing was changed")
