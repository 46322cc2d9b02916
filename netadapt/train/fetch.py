"""Fetching Fashion-MNIST: from a folder, the Debian package, or its public address, always checked."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from netadapt.errors import DataError
from netadapt.train.data.fashion_mnist import SYSTEM_FOLDER, user_folder
from netadapt.train.data.idx import unpack


@dataclass(frozen=True)
class _Bytes:
    size: int
    sha256: str


# Debian's files are compressed anew: they unpack to the same, but are not the same themselves.
CONTENT = {
    "train-images-idx3-ubyte.gz": _Bytes(
        47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": _Bytes(60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte.gz": _Bytes(7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte.gz": _Bytes(10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
"""The unpacked content of the four files."""

PUBLISHED = {
    "train-images-idx3-ubyte.gz": _Bytes(
        26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": _Bytes(29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images-idx3-ubyte.gz": _Bytes(4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels-idx1-ubyte.gz": _Bytes(5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}
"""The files themselves at their public address, which are checked before they are unpacked."""

_ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_PACKAGE = "dataset-fashion-mnist"
_CONNECT_TIMEOUT_S = 20
_DOWNLOAD_LIMIT_S = 1800
_CHUNK = 1 << 16
_APT_TIMEOUT_S = 300

_Getter = Callable[[Path], Path]
"""Brings the files into a scratch folder and returns the folder they lie in."""


OnStage = Callable[[str], None]
"""Hears what is being tried."""
OnBytes = Callable[[int, int], None]
"""Hears how many bytes have been downloaded, of how many."""


def fetch_fashion_mnist(
    source: Path | None,
    destination: Path,
    on_stage: OnStage = lambda text: None,
    on_bytes: OnBytes = lambda done, total: None,
) -> Path:
    """Put the four checked files into folder ``destination`` and return it; nothing is done if they are there.

    ``source`` is a folder that has them. Without it, tried in this order: where the Debian package is installed, that
    package through apt (no root needed), the public address. Every file appears complete or not at all.

    Raises:
        DataError: files of these names are there that are others, or no source gave the right ones; says why for each.

    """
    try:
        if not _faults(destination):
            return destination
        there = [destination / name for name in CONTENT if (destination / name).exists()]
    except OSError as error:
        raise DataError(f"{destination} cannot be used ({error})") from error
    # MNIST's own files have the same names. In the package's own folder they are ours, and damaged.
    if there and destination != user_folder():
        raise DataError(
            f"{there[0]} is there already, but the folder does not hold Fashion-MNIST; choose another folder, or "
            "remove what is there"
        )
    getters: dict[str, _Getter] = {
        f"folder {SYSTEM_FOLDER}": partial(_from_folder, SYSTEM_FOLDER),
        f"Debian package {_PACKAGE}": _from_debian,
        _ADDRESS: partial(_from_address, on_bytes),
    }
    if source is not None:
        getters = {f"folder {source}": partial(_from_folder, source)}
    failures = []
    for title, getter in getters.items():
        if source is None:
            on_stage(f"Fashion-MNIST from {title}")
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
            for name in CONTENT:
                copy = Path(scratch) / f"{name}.copy"
                shutil.copyfile(found / name, copy)
                copy.replace(destination / name)
    except OSError as error:
        raise DataError(f"cannot write to {destination} ({error})") from error


def _faults(folder: Path) -> list[str]:
    """Say what is wrong with each file in ``folder``; empty when all four are as published."""
    faults = []
    for name, expected in CONTENT.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing")
            continue
        try:
            actual = hashlib.sha256(unpack(path, most=expected.size)).hexdigest()
        except DataError as error:
            faults.append(str(error))
            continue
        if actual != expected.sha256:
            faults.append(f"the unpacked content of {path} has SHA-256 {actual}, expected {expected.sha256}")
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


def _from_address(on_bytes: OnBytes, scratch: Path) -> Path:
    deadline = time.monotonic() + _DOWNLOAD_LIMIT_S
    done, total = 0, sum(published.size for published in PUBLISHED.values())
    for name, published in PUBLISHED.items():
        try:
            with urllib.request.urlopen(_ADDRESS + name, timeout=_CONNECT_TIMEOUT_S) as response:
                content = _read_all(response, published.size, deadline, partial(_add, on_bytes, done, total))
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"{name} could not be downloaded: {error}") from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != published.sha256:
            raise DataError(f"{name} as downloaded has SHA-256 {actual}, expected {published.sha256}; it was discarded")
        (scratch / name).write_bytes(content)
        done += published.size
    return scratch


def _add(on_bytes: OnBytes, before: int, total: int, size: int) -> None:
    on_bytes(before + size, total)


def _read_all(response: http.client.HTTPResponse, size: int, deadline: float, on_size: Callable[[int], None]) -> bytes:
    """Read to the end of what should be ``size`` bytes, however slowly or endlessly they come."""
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        on_size(len(content))
        if len(content) > size:
            raise DataError(f"the download is larger than the {size:,} bytes that it should be; it was discarded")
        if time.monotonic() > deadline:
            raise DataError(f"the download took over {_DOWNLOAD_LIMIT_S} s; try again, or give a folder with --from")
    return bytes(content)
