"""QEMU's emulator of AArch64 programs: found, fetched if it is absent, and asked whether it takes our plugin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from netadapt.errors import SetupError
from netadapt.measure.simulator.install import apt
from netadapt.measure.simulator.install.pins import pins
from netadapt.measure.simulator.install.stages import complete_folder, last_lines

PROGRAM = "qemu-aarch64"
PACKAGE = "qemu-user"
_STATUS = Path("/var/lib/dpkg/status")
_TIMEOUT_S = 30
_ADVICE = (
    f"needed is a dynamically linked {PROGRAM} with plugin interface 1, as Debian 12's package {PACKAGE} (7.2) has it: "
    f"sudo apt-get install {PACKAGE}"
)


@dataclass(frozen=True, slots=True)
class Emulator:
    """A usable QEMU."""

    program: Path
    version: str
    #: What its process needs, where its libraries lie in the cache.
    environment: dict[str, str] = field(default_factory=dict)


def find(folder: Path) -> Emulator | None:
    """QEMU on PATH, else the one that was unpacked below `folder`; None when there is none.

    Raises:
        SetupError: it does not run, or is of a version whose plugin interface is another.

    """
    if found := shutil.which(PROGRAM):
        return _emulator(Path(found).absolute(), {})
    unpacked = folder / "qemu"
    if unpacked.is_dir():
        libraries = sorted({str(path.parent) for path in unpacked.glob("usr/lib/**/*.so*")})
        environment = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
        return _emulator(unpacked / "usr" / "bin" / PROGRAM, environment)
    return None


def ensure(folder: Path, on_step: Callable[[str], None]) -> Emulator:
    """Find QEMU, or get it: with apt when root, else its package is unpacked below `folder`.

    Args:
        folder: that of the installation.
        on_step: hears what is being done for it.

    Raises:
        SetupError: it is not usable, or could not be got; says how to install it.

    """
    if found := find(folder):
        return found
    try:
        if os.geteuid() == 0:
            on_step(f"installing {PACKAGE}")
            apt.install(PACKAGE, on_step)
        else:
            on_step(f"fetching {PACKAGE}")
            complete_folder(folder / "qemu", _unpack)
    except SetupError as error:
        raise SetupError(f"{PROGRAM} is not on PATH and could not be fetched; {_ADVICE}\n{error}") from error
    found = find(folder)
    if found is None:
        raise SetupError(f"{PACKAGE} was installed, but {PROGRAM} is not on PATH; {_ADVICE}")
    return found


def require_plugin(emulator: Emulator, plugin: Path) -> None:
    """Have QEMU load a plugin; no guest is needed for that.

    Raises:
        SetupError: QEMU was built without plugins (static ones are), has another plugin interface, or the plugin
            cannot be loaded.

    """
    # QEMU loads plugins before it looks for the program. A comma in the path would begin an argument of the plugin.
    path = str(plugin).replace(",", ",,")
    said = _said(emulator.program, ["-plugin", path, "/nonexistent"], emulator.environment)
    title = f"{emulator.program} (version {emulator.version})"
    if "unknown option" in said:
        raise SetupError(f"{title} takes no plugins; it is probably a static build; {_ADVICE}")
    if "API version" in said:
        reason = said.split("plugin requires", 1)[-1].strip()
        raise SetupError(f"{title} has another plugin interface (the plugin requires {reason}); {_ADVICE}")
    if "Could not load plugin" in said and "error code" not in said:
        raise SetupError(f"{title} cannot load the timing plugin: {last_lines(said)}; {_ADVICE}")


def _emulator(program: Path, environment: dict[str, str]) -> Emulator:
    said = _said(program, ["--version"], environment)
    match = re.search(r"version (\d+)\.(\d+)\S*", said)
    if match is None:
        raise SetupError(f"{program} does not tell its version but says: {last_lines(said)}; {_ADVICE}")
    low, high = pins().qemu_at_least, pins().qemu_below
    if not low <= (int(match[1]), int(match[2])) < high:
        raise SetupError(
            f"{program} is QEMU {match[1]}.{match[2]}; versions from {low[0]}.{low[1]} to before {high[0]}.{high[1]} "
            f"have plugin interface 1; {_ADVICE}"
        )
    return Emulator(program, match.group().removeprefix("version "), environment)


def _said(program: Path, arguments: list[str], environment: dict[str, str]) -> str:
    """Everything that QEMU says, whatever its exit status."""
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env={**os.environ, **environment},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{program} cannot be run: {error}; {_ADVICE}") from error
    return done.stdout + done.stderr


def _unpack(scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        sources = apt.Apt(Path(work), status=_STATUS)
        sources.update()
        for archive in sources.download_missing(PACKAGE):
            apt.unpack(archive, scratch, (f"usr/bin/{PROGRAM}", "usr/lib/"))
