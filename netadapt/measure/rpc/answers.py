"""Check the answers of boards: a server can be of another version, damaged, or not what it says."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netadapt.errors import DeviceError

#: Of a name that a board gives itself.
_LONGEST_TEXT = 200
_MOST_BYTES = 1 << 20
_MOST_CORES = 4096
#: Of any number; in ns, thirty years.
_LARGEST = 1e18


class UnusableAnswer(DeviceError):  # noqa: N818 - of a board, not a mistake of ours
    """A board answers with something else than the device server does; the message goes on "the board at ...: "."""


class Description(BaseModel):
    """A board's description of itself; fields that this version does not know are left out."""

    model_config = ConfigDict(strict=True, extra="ignore")

    server: str = Field(default="", max_length=_LONGEST_TEXT)
    protocol: int
    tvm: str = Field(max_length=_LONGEST_TEXT)
    onnxruntime: str | None = Field(default=None, max_length=_LONGEST_TEXT)
    python: str = Field(default="", max_length=_LONGEST_TEXT)
    machine: str = Field(default="", max_length=_LONGEST_TEXT)
    os: str = Field(default="", max_length=_LONGEST_TEXT)
    cores: int = Field(default=1, ge=1, le=_MOST_CORES)
    affinity: list[int] = Field(default=[], max_length=_MOST_CORES)
    #: How its previous session ended.
    previous: str | None = Field(default=None, max_length=_LONGEST_TEXT)


def description_of(answer: object) -> dict[str, Any]:
    """Read what `netadapt.describe` gives.

    Raises:
        UnusableAnswer: it is not a description.

    """
    try:
        description = Description.model_validate(json_of(answer))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "as a whole"
        raise UnusableAnswer(f"its description of itself is not usable: {where}: {fault['msg']}") from error
    fields = description.model_dump()
    return {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}


def json_of(answer: object) -> Any:
    """The JSON in what a function of a board gives.

    Raises:
        UnusableAnswer: there is none.

    """
    text = str(answer)
    if len(text) > _MOST_BYTES:
        raise UnusableAnswer(f"it answers with {len(text):,} characters, where a few hundred are expected")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer(f"it answers with what is not JSON: {printable(text[:60])!r}") from error


def number(value: object) -> float:
    """A number of a size that is measured.

    Raises:
        ValueError: it is something else.

    """
    # So written, neither NaN nor an integer that no float can hold is one.
    if isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST:
        return float(value)
    raise ValueError(f"not a number: {str(value)[:40]!r}")


def printable(text: str) -> str:
    """A text without what would move the cursor of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
