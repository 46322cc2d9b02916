"""Definition files: TOML, bundled with the package or the user's own, with all faults told at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from netadapt.errors import DefinitionError, UnknownNameError
from netadapt.files import read_at_most
from netadapt.levels import is_deeper, levels

#: Of one file; the largest that is bundled is a tenth of it.
_MOST_BYTES = 1 << 20
#: Tables in tables; the time that tomllib takes for a key grows with the square of its parts.
_MOST_DEPTH = 32
#: Characters of what was found, in an error.
_MOST_SHOWN = 60
_PART = r"""(?>[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?>{_PART}[ \t]*\.[ \t]*){{{_MOST_DEPTH},}}")


class Section(BaseModel):
    """A part of a definition: no field may be unknown, and none is converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def definition_folders(user: str, bundled: str) -> list[Path]:
    """Folders with definitions of one kind that exist, the user's before the bundled one.

    Args:
        user: name of the folder in the user's configuration folder.
        bundled: path of the folder in the wheel or the checkout.

    """
    package = resources.files("netadapt")
    candidates = [platformdirs.user_config_path("netadapt") / user]
    if isinstance(package, Path):
        # In a wheel they lie inside the package, in a checkout beside it.
        candidates += [package / bundled, package.parent / bundled]
    return [folder for folder in candidates if folder.is_dir()]


def definition_names(folders: list[Path]) -> list[str]:
    """Names of the definitions in some folders, sorted."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def find_definition(kind: str, name_or_path: str | Path, folders: list[Path]) -> Path:
    """The file that a path or a name stands for; the first folder counts.

    Raises:
        UnknownNameError: there is no definition of that name.

    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return Path(name_or_path)
    for folder in folders:
        path = folder / f"{text}.toml"
        if os.path.isfile(path):  # unlike Path.is_file, whatever the name
            return path
    raise UnknownNameError(kind, text, definition_names(folders))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        DefinitionError: there is no such file, or it is not one.

    """
    try:
        text = read_at_most(path, _MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise DefinitionError(f"{path}: there is no such {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read as text: {error}") from error
    return parse_toml(text.replace("\r\n", "\n"), path)


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The content of a text that is, or will be, a TOML file.

    Raises:
        DefinitionError: it is not one.

    """
    if _LONG_KEY.search(text):
        raise DefinitionError(f"{path}: has a key of more than {_MOST_DEPTH} parts")
    try:
        fields = tomllib.loads(text)
    except RecursionError as error:
        raise DefinitionError(f"{path}: not a TOML file that a person would write: it is nested too deeply") from error
    except ValueError as error:
        # TOMLDecodeError is one; numbers of thousands of digits are another.
        raise DefinitionError(f"{path}: not a TOML file: {error}") from error
    if is_deeper(fields, _MOST_DEPTH):
        raise DefinitionError(f"{path}: is nested more than {_MOST_DEPTH} levels deep")
    numbers = (value for level in levels(fields) for value in level if isinstance(value, int))
    if not all(-(1 << 63) <= number < 1 << 63 for number in numbers):
        # Python reads what TOML does not allow, and cannot even show some of it.
        raise DefinitionError(f"{path}: not a TOML file: has an integer of more than 64 bits")
    return fields


def faults_of(error: ValidationError, unions: tuple[str, ...] = ()) -> list[str]:
    """The faults that pydantic found, each with its field.

    Args:
        error: what pydantic raised.
        unions: fields whose content can be of several kinds; pydantic names the kind that it took it for.

    """
    return [f"{_named(_field(fault['loc'], unions))}{_complaint(fault)}" for fault in error.errors()]


def _named(field: str) -> str:
    """Return what goes before a complaint: nothing if it is about the whole document."""
    return f"{field}: " if field else ""


def _complaint(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "missing":
        return "missing"
    message = "It does not say what it is" if fault["type"] == "union_tag_not_found" else fault["msg"]
    return f"{message} (found {str(fault['input'])[:_MOST_SHOWN]!r})"


def definition_error(path: Path, faults: list[str]) -> DefinitionError:
    """The error that tells all faults of a file."""
    lines = "".join(f"\n  {fault}" for fault in faults)
    return DefinitionError(f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}{lines}")


def _field(location: tuple[int | str, ...], unions: tuple[str, ...]) -> str:
    parts = [str(part)[:_MOST_SHOWN] for part in location]
    if len(parts) > 2 and parts[0] in unions:
        del parts[1]
    # A name out of the file must not steer the terminal that it is shown on.
    return ".".join(part if part.isprintable() else repr(part) for part in parts)
