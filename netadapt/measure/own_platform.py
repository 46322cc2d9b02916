"""A definition for a board of one's own, made from a bundled one."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from netadapt.errors import DefinitionError
from netadapt.files import write_atomically
from netadapt.measure.definitions import find_definition
from netadapt.measure.platform import load_platform, platform_folders

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: Fields that say where boards are; new ones replace all of them.
_ADDRESS = ("server", "tracker", "key")


def add_platform(name: str, like: str, changes: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a definition into the user's configuration folder, and return its path.

    Args:
        name: what the platform will be called.
        like: name or path of the definition to start from; what is not changed stays, comments included.
        changes: new values of fields that are texts, by table ("" is outside of any) and name.

    Raises:
        UnknownNameError, DefinitionError: there is no usable definition to start from, there is one of that name
            already, or what the changes make of it cannot be used.

    """
    if not _NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} cannot be the name of a platform: use a-z, 0-9, '.', '_' and '-'")
    path = platformdirs.user_config_path("netadapt") / "platforms" / f"{name}.toml"
    if path.exists():
        raise DefinitionError(f"{path} is there already; edit it, remove it, or choose another name")
    source = find_definition("platform", like, platform_folders())
    load_platform(source)
    text = _changed(source.read_text(encoding="utf-8"), {**changes, "": {**changes.get("", {}), "name": name}})
    _require_usable(text, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    return path


def _changed(text: str, changes: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a definition with fields replaced, or added to the end of their table."""
    lines: list[str] = []
    table, open_text = "", False
    missing = {name: dict(fields) for name, fields in changes.items()}

    def add_missing() -> None:
        while lines and not lines[-1].strip():
            lines.pop()
        lines.extend(f"{field} = {json.dumps(value)}" for field, value in missing.pop(table, {}).items())

    for line in text.splitlines():
        field = line.partition("=")[0].strip()
        if line.startswith("[") and not open_text:
            add_missing()
            table = line.strip("[] ")
            lines += ["", line]
        elif field in changes.get(table, {}) and not open_text:
            value = missing[table].pop(field, None)
            lines += [f"{field} = {json.dumps(value)}"] if value is not None else []
        elif table != "rpc" or field not in _ADDRESS or not set(_ADDRESS) & set(changes.get("rpc", {})):
            lines.append(line)
        open_text ^= line.count('"""') % 2 == 1
    add_missing()
    for table in [name for name, fields in missing.items() if fields]:
        lines += ["", f"[{table}]"]
        add_missing()
    return "\n".join(lines) + "\n"


def _require_usable(text: str, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="netadapt-platform-") as folder:
        path = Path(folder) / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        load_platform(path)
