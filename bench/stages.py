"""Work that is done once: each stage keeps what it found in a folder named by everything that decides it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netadapt.files import write_atomically


@dataclass(frozen=True)
class Stage:
    """A piece of work and its folder; `key` decides its result, whoever does it and whenever."""

    name: str
    key: Mapping[str, Any]
    folder: Path

    @property
    def found(self) -> dict[str, Any] | None:
        """What the stage found, if it has been done."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "found.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def keep(self, found: Mapping[str, Any]) -> None:
        """Say that the stage is done; what else it left in its folder is then complete."""
        write_atomically(self.folder / "found.json", json.dumps(found, sort_keys=True).encode())

    def do(self, work: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        """What the stage found, now or in an earlier run. `work` is given the folder, to leave files in."""
        if (found := self.found) is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keep(work(self.folder))
        # What was just kept, so that a resumed run gives the very same values.
        return json.loads((self.folder / "found.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Workshop:
    """The folder of all stages of a case."""

    folder: Path

    def stage(self, name: str, **key: Any) -> Stage:
        """The stage of that name and key."""
        text = json.dumps([name, key], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return Stage(name, key, self.folder / f"{name}-{digest}")
