"""What the set-up installs: the pinned versions, and the key of the folder they lie in."""

from __future__ import annotations

import hashlib
import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

_FILE = Path(__file__).parent.parent / "pins.toml"
_GUEST_SCRIPTS = [Path(__file__).parent / name for name in ("compile_in_guest.py", "surroundings.py")]

#: Counts changes in how the parts are put together, as the file counts those of the parts.
LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of one exact content."""

    name: str
    version: str
    sha256: str
    #: Tags of the platforms that it may be for, as pip takes them.
    tags: tuple[str, ...]
    #: Starts of the paths that are not unpacked.
    omit: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Pins:
    """Everything that is pinned."""

    qemu_at_least: tuple[int, int]
    qemu_below: tuple[int, int]
    packages: tuple[str, ...]
    tested_packages: dict[str, str]
    guest_wheels: tuple[Wheel, ...]
    #: Capstone for this machine; None where there is none.
    host_wheel: Wheel | None


@cache
def pins() -> Pins:
    """Read the pins for this machine."""
    fields = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    guest = [_wheel(entry, "aarch64") for entry in fields["guest_wheels"]]
    host = [_wheel(entry, entry["machine"]) for entry in fields["host_wheels"] if entry["machine"] == _machine()]
    low, high = fields["qemu"]["at_least"], fields["qemu"]["below"]
    return Pins(
        (low[0], low[1]),
        (high[0], high[1]),
        tuple(fields["userland"]["packages"]),
        fields["userland"]["tested"],
        tuple(guest),
        host[0] if host else None,
    )


def installation_folder() -> Path:
    """The folder of an installation with these pins, in the user's cache folder; may not exist."""
    return platformdirs.user_cache_path("netadapt") / "simulator" / _key()


@cache
def _key() -> str:
    # The plugin and Capstone's library are for the kind of machine that runs QEMU.
    digest = hashlib.sha256(f"{LAYOUT} {_machine()}".encode())
    for path in (_FILE, *sorted(_GUEST_SCRIPTS)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _machine() -> str:
    return platform.machine()


def _wheel(entry: dict[str, str], machine: str) -> Wheel:
    tags = tuple(f"manylinux_2_{minor}_{machine}" for minor in range(17, 29))
    return Wheel(entry["name"], entry["version"], entry["sha256"], tags, tuple(entry.get("omit", ())))
