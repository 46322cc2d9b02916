"""Wheels of exactly the pinned content, fetched by pip so that the user's package index is used."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path

from netadapt.errors import SetupError
from netadapt.measure.simulator.install.pins import Wheel
from netadapt.measure.simulator.install.stages import complete_folder, run


def fetch(wheel: Wheel, folder: Path) -> Path:
    """Have a wheel in a folder of its own below `folder`, and return its file.

    Raises:
        SetupError: pip cannot fetch it, or what it fetched has another checksum (and is removed).

    """
    place = folder / f"{wheel.name}-{wheel.version}"
    complete_folder(place, lambda scratch: _download(wheel, scratch))
    file = _only_file(place, wheel)
    try:
        _verify(wheel, file)
    except SetupError:
        shutil.rmtree(place)
        raise
    return file


def unpack(wheel: Wheel, file: Path, site: Path) -> None:
    """Unpack what is wanted of a wheel into a folder of Python packages."""
    with zipfile.ZipFile(file) as archive:
        # zipfile strips what would lead out of the folder.
        archive.extractall(site, [name for name in archive.namelist() if not name.startswith(wheel.omit)])


def _download(wheel: Wheel, scratch: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise SetupError(
            f"fetching {wheel.title} needs pip, which this Python lacks; install it with: {sys.executable} -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    # The wheel is kept here; nothing is left elsewhere.
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"]
    command += [f"--platform={tag}" for tag in wheel.tags]
    run([*command, "--dest", scratch, f"{wheel.name}=={wheel.version}"], f"fetching {wheel.title}")
    _verify(wheel, _only_file(scratch, wheel))


def _only_file(folder: Path, wheel: Wheel) -> Path:
    files = list(folder.glob("*.whl"))
    if len(files) != 1:
        raise SetupError(f"fetching {wheel.title}: expected one wheel in {folder}, found {len(files)}")
    return files[0]


def _verify(wheel: Wheel, file: Path) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise SetupError(
            f"the wheel {file.name} has SHA-256 {found}, expected {wheel.sha256}; it was removed. The package index "
            "that pip uses offers another file under this name: use another index, or run the set-up again if the "
            "download was damaged"
        )
