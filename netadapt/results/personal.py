"""Names that must not be published: of hosts, users and folders."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: Names of users and hosts that say nothing about whose they are, and that occur as words.
_COMMON = {"root", "user", "admin", "runner", "ubuntu", "debian", "localhost", "host", "build", "docker"}
#: Shorter names occur inside anything.
_SHORTEST = 4

#: Where absolute paths begin. A name such as "/features/0/Conv" is a layer.
_ROOTS = "home|Users|root|tmp|var|opt|usr|etc|mnt|media|srv|private|Volumes|workspace|builds|runs|scratch|data"
# Tried only where a word begins, and never again shorter: else a long word takes the square of its length.
_EMAIL = r"(?<![\w.+-])[\w.+-]++@[\w-]+\.[A-Za-z][\w.]+"
_ADDRESS = r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d+"


def personal_words(content: Any, own: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """What in a document tells where or by whom it was made: the place of each find, and the find.

    Args:
        content: as JSON is read.
        own: names of this machine and its user, found out if not given: results are checked where they were made.

    """
    names = [re.escape(name) for name in (own_names() if own is None else own) if _is_telling(name)]
    roots = "|".join([_ROOTS, *map(re.escape, _own_roots())])
    patterns = [rf"(?<![\w.])(?:~|/(?:{roots}))/[^\s\"']+", r"\b[A-Za-z]:\\[^\s\"']+", _EMAIL, _ADDRESS]
    if names:
        patterns.append(rf"(?<![A-Za-z0-9])(?:{'|'.join(names)})(?![A-Za-z0-9])")
    telling = re.compile("|".join(patterns))
    return [(place, match.group()) for place, text in _strings(content, "") for match in telling.finditer(text)]


def own_names() -> list[str]:
    """Names of this machine and of its user."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        user = ""
    return [host, host.split(".")[0], user, Path.home().name]


def _is_telling(name: str) -> bool:
    return len(name) >= _SHORTEST and name.lower() not in _COMMON


def _own_roots() -> list[str]:
    """First folders of the paths of this user's home and work, wherever they may be."""
    return [path.parts[1] for path in (Path.home(), Path.cwd()) if len(path.parts) > 1]


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield place, key
            yield from _strings(entry, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _strings(entry, f"{place}.{index}")
