"""The guest's files: an arm64 Debian userland with Python, wheels, and the bytecode of what is imported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from netadapt.errors import SetupError
from netadapt.files import write_atomically
from netadapt.measure.simulator.install import apt, wheels
from netadapt.measure.simulator.install.pins import pins
from netadapt.measure.simulator.install.qemu import Emulator
from netadapt.measure.simulator.install.stages import complete_folder, run

#: Where the wheels are unpacked, as the guest sees it.
SITE = "/netadapt/site"
PYTHON = "usr/bin/python3.11"
_VERSIONS = "netadapt/packages.json"
_FETCHING = "arm64 packages of Debian"
_UNPACKING = "unpacking"
_COMPILING = "compiling Python modules in the guest"
_SCRIPTS = ("compile_in_guest.py", "surroundings.py")


def stages(folder: Path) -> list[str]:
    """Names of the stages that `ensure` has, in their order; none where all is there."""
    if (folder / "root").is_dir():
        return []
    return [_FETCHING, *(f"{wheel.title} for aarch64" for wheel in pins().guest_wheels), _UNPACKING, _COMPILING]


def ensure(folder: Path, emulator: Emulator, on_stage: Callable[[str], None]) -> Path:
    """Have the guest's files in `folder`/root, and return that.

    Raises:
        SetupError: packages or wheels cannot be fetched, or the guest's Python does not run.

    """
    root = folder / "root"
    if root.is_dir():
        return root
    on_stage(_FETCHING)
    complete_folder(folder / "packages", _fetch_packages)
    files = {}
    for wheel in pins().guest_wheels:
        on_stage(f"{wheel.title} for aarch64")
        files[wheel] = wheels.fetch(wheel, folder / "wheels")
    on_stage(_UNPACKING)

    def make(scratch: Path) -> None:
        _unpack_packages(folder / "packages", scratch)
        for wheel, file in files.items():
            wheels.unpack(wheel, file, scratch / SITE[1:])
        on_stage(_COMPILING)
        _compile(scratch, emulator)

    complete_folder(root, make)
    for downloads in ("packages", "wheels"):
        shutil.rmtree(folder / downloads, ignore_errors=True)
    return root


def versions(root: Path) -> dict[str, str]:
    """Versions of the guest's packages and wheels, by name."""
    recorded: dict[str, str] = json.loads((root / _VERSIONS).read_text(encoding="utf-8"))
    return recorded


def untested(found: dict[str, str]) -> list[str]:
    """The versions that figures were published with, of those packages that have another version."""
    return [f"{name} {version}" for name, version in pins().tested_packages.items() if found.get(name) != version]


def _fetch_packages(scratch: Path) -> None:
    apt.require_apt()
    sources = apt.Apt(scratch / "apt", "arm64")
    sources.update()
    for archive in sources.download(pins().packages):
        archive.rename(scratch / archive.name)
    shutil.rmtree(scratch / "apt")


def _unpack_packages(packages: Path, root: Path) -> None:
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    found = {wheel.name: wheel.version for wheel in pins().guest_wheels}
    for archive in sorted(packages.glob("*.deb")):
        apt.unpack(archive, root)
        name, version = apt.version_of(archive)
        found[name] = version
    # glibc tries this name first, and would find the one of the host, where there is one.
    (root / "usr/lib/locale/C.UTF-8").symlink_to("C.utf8")
    missing = set(pins().packages) - set(found)
    if missing:
        raise SetupError(f"apt-get fetched no package for: {', '.join(sorted(missing))}")
    write_atomically(root / _VERSIONS, json.dumps(found, indent=1, sort_keys=True).encode())


def python_command(program: Path, root: str) -> list[str | Path]:
    """Start of the command line of the guest's Python; to be run in the folder that has the guest's root."""
    # Python finds its library by its own name (-0), which must be a path of the guest.
    guest: list[str | Path] = [program, "-cpu", "cortex-a72", "-r", "5.10.0", "-L", root, "-0", f"/{PYTHON}"]
    return [*guest, "-E", "PYTHONHASHSEED=0", "-E", "PYTHONDONTWRITEBYTECODE=1", f"{root}/{PYTHON}", "-s", "-P", "-S"]


def _compile(root: Path, emulator: Emulator) -> None:
    """Write the bytecode of what a guest imports, so that it starts in half the time; by the guest's own Python."""
    for name in _SCRIPTS:
        shutil.copyfile(Path(__file__).parent / name, root / "netadapt" / name)
    command = [*python_command(emulator.program, root.name), f"/netadapt/{_SCRIPTS[0]}", root.name]
    run(command, _COMPILING, 300, emulator.environment, root.parent)
