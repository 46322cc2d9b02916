"""Fetching Fashion-MNIST: from a folder, the Debian package, or its public address, always checked."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from netadapt.errors import DataError
from netadapt.train.data.fashion_mnist import SYSTEM_FOLDER
from netadapt.train.data.idx import unpack

# Of the unpacked content: Debian's files are compressed anew, so the .gz files themselves differ from the published.
CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_PACKAGE = "dataset-fashion-mnist"
_CONNECT_TIMEOUT_S = 20
_APT_TIMEOUT_S = 300

_Getter = Callable[[Path], Path]
"""Brings the files into a scratch folder and returns the folder they lie in."""


def fetch_fashion_mnist(source: Path | None, destination: Path) -> Path:
    """Put the four checked files into folder ``destination`` and return it; nothing is done if they are there.

    ``source`` is a folder that has them. Without it, tried in this order: where the Debian package is installed, that
    package through apt (no root needed), the public address. Every file appears complete or not at all.

    Raises:
        DataError: no source gave the right files; says why for each.

    """
    if not _faults(destination):
        return destination
    getters: dict[str, _Getter] = {
        f"folder {SYSTEM_FOLDER}": partial(_from_folder, SYSTEM_FOLDER),
        f"Debian package {_PACKAGE}": _from_debian,
        _ADDRESS: _from_address,
    }
    if source is not None:
        getters = {f"folder {source}": partial(_from_folder, source)}
    failures = []
    for title, getter in getters.items():
        try:
            _fetch(getter, destination)
        except DataError as error:
            failures.append(f"{title}: {error}")
        else:
            return destination
    raise DataError("Fashion-MNIST could not be fetched. " + ". ".join(failures))


def _fetch(getter: _Getter, destination: Path) -> None:
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=destination) as scratch:
            found = getter(Path(scratch))
            if faults := _faults(found):
                raise DataError("; ".join(faults))
            for name in CONTENT_SHA256:
                copy = Path(scratch) / f"{name}.copy"
                shutil.copyfile(found / name, copy)
                copy.replace(destination / name)
    except OSError as error:
        raise DataError(f"cannot write to {destination} ({error})") from error


def _faults(folder: Path) -> list[str]:
    """Say what is wrong with each file in ``folder``; empty when all four are as published."""
    faults = []
    for name, expected in CONTENT_SHA256.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing")
            continue
        try:
            actual = hashlib.sha256(unpack(path)).hexdigest()
        except DataError as error:
            faults.append(str(error))
            continue
        if actual != expected:
            faults.append(f"the unpacked content of {path} has SHA-256 {actual}, expected {expected}")
    return faults


def _from_folder(source: Path, scratch: Path) -> Path:
    return source


def _from_debian(scratch: Path) -> Path:
    _run(["apt-get", "download", _PACKAGE], scratch)
    archives = list(scratch.glob(f"{_PACKAGE}_*.deb"))
    if not archives:
        raise DataError("apt-get downloaded nothing")
    _run(["dpkg", "-x", str(archives[0]), str(scratch)], scratch)
    return scratch / SYSTEM_FOLDER.relative_to("/")


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_APT_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise DataError(f"{' '.join(command[:2])} failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{' '.join(command[:2])} failed: {error}") from error


def _from_address(scratch: Path) -> Path:
    for name in CONTENT_SHA256:
        try:
            with (
                urllib.request.urlopen(_ADDRESS + name, timeout=_CONNECT_TIMEOUT_S) as response,
                (scratch / name).open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"{name} could not be downloaded: {error}") from error
    return scratch
