"""Definitions of the user's own boards: made from another definition, and removed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from netadapt.errors import DefinitionError
from netadapt.files import write_atomically
from netadapt.measure.definitions import definition_names, find_definition
from netadapt.measure.platform import Platform, list_platforms, load_platform, parse_platform, platform_folders

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: A file's name has at most 255 bytes, and is longer while it is written.
_LONGEST_NAME = 100
#: Fields that say where boards are; new ones replace all of them.
_ADDRESS = ("server", "tracker", "key")
_RUNTIMES = {"tvm": "code that TVM compiled", "ort": "ONNX Runtime"}


def add_platform(name: str, like: str, changes: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a definition into the user's configuration folder, and return its path.

    Args:
        name: what the platform will be called.
        like: name or path of the definition to start from; what is not changed stays, comments included, but for the
            card, which is about the new board.
        changes: new values of fields that are texts, by table ("" is outside of any) and name.

    Raises:
        UnknownNameError, DefinitionError: there is no usable definition to start from, there is one of that name
            already, what the changes make of it cannot be used, or it cannot be written.

    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise DefinitionError(
            f"{name!r} cannot be the name of a platform: use a-z, 0-9, '.', '_' and '-', at most {_LONGEST_NAME}"
        )
    path = _path(name)
    if path.exists():
        raise DefinitionError(f"{path} is there already; edit it, remove it, or choose another name")
    source = find_definition("platform", like, platform_folders())
    base = load_platform(source)
    _require_board(base)
    if "mcpu" in changes.get("runtime.target", {}) and base.runtime.name != "tvm":
        raise DefinitionError(
            f"{base.name} measures {_RUNTIMES[base.runtime.name]}, which finds out itself what the board's core can do:"
            " a core is named for TVM's compiler only (--cpu)"
        )
    board = changes.get("rpc", {}).get("board", base.rpc.board if base.rpc else "")
    own = {"card": _card(base, board), **changes.get("", {}), "name": name}
    text = _changed(source.read_text(encoding="utf-8"), {**changes, "": own})
    parse_platform(text, path)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise DefinitionError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def remove_platform(name: str) -> Path:
    """Remove a definition from the user's configuration folder, and return the path that it had.

    Raises:
        DefinitionError: it is not one of the user's own, or cannot be removed.

    """
    path = _path(name)
    own = definition_names([path.parent])
    if name not in own:
        why = "comes with netadapt and stays" if name in list_platforms() else "is not there"
        raise DefinitionError(f"{name} {why}; platforms of your own, which can be removed: {', '.join(own) or 'none'}")
    try:
        path.unlink()
    except OSError as error:
        raise DefinitionError(f"{path} cannot be removed: {error.strerror or error}") from error
    return path


def _path(name: str) -> Path:
    return platformdirs.user_config_path("netadapt") / "platforms" / f"{name}.toml"


def _require_board(base: Platform) -> None:
    """Raise DefinitionError unless a platform is of boards that have an address."""
    if base.tier == "device":
        return
    loaded = [load_platform(path) for folder in platform_folders()[-1:] for path in sorted(folder.glob("*.toml"))]
    boards = [platform.name for platform in loaded if platform.tier == "device"]
    what = "measures on this machine" if base.tier == "local" else f"is of tier {base.tier!r}"
    raise DefinitionError(f"{base.name} {what} and has no board to reach; start from one that has: {', '.join(boards)}")


def _card(base: Platform, board: str) -> str:
    """Write the card of a new board: what its numbers may be used for."""
    what = _RUNTIMES[base.runtime.name]
    if base.runtime.name == "tvm" and base.runtime.target.kind == "opencl":
        what = "OpenCL kernels that TVM generated"
    return (
        f"Wall time of {what} on {board}. What a network really takes there: good for adapting and comparing networks"
        f" for this board, and says nothing about others (docs/add-a-phone.md)."
    )


def _changed(text: str, changes: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a definition with fields replaced, or added to the end of their table."""
    lines: list[str] = []
    table, in_text, replaced = "", False, False
    missing = {name: dict(fields) for name, fields in changes.items()}

    def add_missing() -> None:
        while lines and not lines[-1].strip():
            lines.pop()
        lines.extend(f"{field} = {_quoted(value)}" for field, value in missing.pop(table, {}).items())

    for line in text.splitlines():
        field = line.partition("=")[0].strip()
        if in_text:
            lines += [] if replaced else [line]
        elif line.startswith("["):
            add_missing()
            table = line.strip("[] ")
            lines += ["", line]
        elif replaced := field in changes.get(table, {}):
            value = missing[table].pop(field, None)
            lines += [f"{field} = {_quoted(value)}"] if value is not None else []
        elif table != "rpc" or field not in _ADDRESS or not set(_ADDRESS) & set(changes.get("rpc", {})):
            lines.append(line)
        in_text ^= line.count('"""') % 2 == 1
    add_missing()
    for table in [name for name, fields in missing.items() if fields]:
        lines += ["", f"[{table}]"]
        add_missing()
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """A text as TOML has it.

    Raises:
        DefinitionError: it holds what is no character.

    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DefinitionError(f"{value!r} is not text: {error.reason}") from error
    # As in JSON, but TOML takes no pairs of surrogates, and no DEL as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
