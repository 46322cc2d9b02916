"""Debian packages through the machine's package sources, with folders of our own: no root needed, nothing installed."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from netadapt.errors import SetupError
from netadapt.measure.simulator.install.stages import last_lines, run

_TIMEOUT_S = 300
#: For how long other programs may use apt and dpkg, such as unattended upgrades, and how often is tried again.
_PATIENCE_S = 600.0
_LOCK_POLL_S = 2.0
#: What apt-get says then: a lock of dpkg, or of its own lists or archives; newer ones say who holds it.
_LOCKED = re.compile(r"Could not get lock (\S+?)(?:\. It is held by (process \d+ \([^)]*\)))?(?:\s|$)")

#: Documentation and the like, which a guest never reads.
_OMITTED = ("usr/share/doc/", "usr/share/man/", "usr/share/lintian/", "usr/share/gdb/", "usr/share/gcc/")


def require_apt() -> None:
    """Raise SetupError unless this is a Debian-like machine."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SetupError(
                f"the set-up of the simulator takes Debian packages and needs {tool}, which is not on PATH; it works "
                "on Debian 12, also in a container"
            )


class Apt:
    """The package sources of this machine, for one architecture."""

    def __init__(self, folder: Path, architecture: str | None = None, status: Path | None = None) -> None:
        """Keep everything in ``folder``.

        Args:
            folder: for lists and archives.
            architecture: of the packages, as Debian names it; None for this machine's.
            status: file with the packages that are taken for installed; None for none.

        """
        options = {
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": status or folder / "status",
            "Dir::Cache": folder / "cache",
            # The user _apt could not write to the folder.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
            # The lists are ours alone, and the lock of dpkg needs root.
            "Debug::NoLocking": "1",
        }
        if architecture:
            options |= {"APT::Architecture": architecture, "APT::Architectures::": architecture}
        self._options = [f"-o{name}={value}" for name, value in options.items()]
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        self._archives = folder / "cache" / "archives"
        self._complaint = ""

    def update(self) -> None:
        """Fetch the lists of packages; what fails is told when a package is missing then."""
        try:
            run(["apt-get", "-q", *self._options, "update"], "fetching the lists of packages", _TIMEOUT_S)
        except SetupError as error:
            # One source among many may be gone, or without this architecture, and not matter.
            self._complaint = f"\n{error}"

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Fetch these packages, without those they depend on.

        Raises:
            SetupError: the sources lack one, or cannot be reached.

        """
        self._run(["download", *packages])
        return sorted(self._archives.glob("*.deb"))

    def download_missing(self, package: str) -> list[Path]:
        """Fetch a package, and what it depends on as far as that is not installed.

        Raises:
            SetupError: as `download`.

        """
        options = ["--yes", "--download-only", "--reinstall", "--no-install-recommends"]
        self._run(["install", *options, package])
        return sorted(self._archives.glob("*.deb"))

    def _run(self, arguments: Sequence[str]) -> None:
        command = ["apt-get", "-q", *self._options, *arguments]
        try:
            run(command, "fetching Debian packages", _TIMEOUT_S, folder=self._archives)
        except SetupError as error:
            raise SetupError(
                f"{error}{self._complaint}\nThe package sources of Debian 12 (bookworm) must be among this machine's "
                "and must be reachable"
            ) from error


def install(package: str, on_wait: Callable[[str], None]) -> None:
    """Install a package on this machine, when no other program uses apt or dpkg. Needs root.

    Args:
        package: its name.
        on_wait: hears what this waits for.

    Raises:
        SetupError: apt-get failed, or others used it for ten minutes.

    """
    deadline = time.monotonic() + _PATIENCE_S
    run_alone(["apt-get", "-q", "update"], "fetching the lists of packages", on_wait, deadline)
    command = ["apt-get", "-q", "install", "--yes", "--no-install-recommends", package]
    run_alone(command, f"installing {package}", on_wait, deadline)


def run_alone(command: Sequence[str], purpose: str, on_wait: Callable[[str], None], deadline: float) -> None:
    """Run apt-get, again and again while another program holds one of its locks.

    Raises:
        SetupError: it failed for another reason, or the deadline (`time.monotonic`) has passed.

    """
    while True:
        try:
            run(command, purpose, _TIMEOUT_S, {"DEBIAN_FRONTEND": "noninteractive"})
        except SetupError as error:
            found = _LOCKED.search(str(error))
            if found is None:
                raise
            holder = f"{found[2] or 'another program'}, which holds {found[1]}"
            if time.monotonic() >= deadline:
                raise SetupError(
                    f"{purpose}: waited in vain for {holder}; run the set-up again when it has ended"
                ) from error
        else:
            return
        on_wait(f"waiting for {holder}")
        time.sleep(min(_LOCK_POLL_S, max(0.0, deadline - time.monotonic())))


def unpack(archive: Path, root: Path, only: tuple[str, ...] = ("",)) -> None:
    """Unpack a package below `root`, where /bin, /sbin and /lib are links into /usr, as on every Debian 12.

    Args:
        archive: the package.
        root: the folder.
        only: what is unpacked of it, by the start of the path. Documentation never is.

    Raises:
        SetupError: the archive is damaged.

    """
    content = _content(archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            # apt has checked who signed the package; newer Pythons would refuse absolute links.
            tar.extraction_filter = lambda member, _: member
            for member in tar:
                member.name = merged(member.name)
                if member.islnk():
                    member.linkname = merged(member.linkname)
                if member.name and member.name.startswith(only) and not member.name.startswith(_OMITTED):
                    member.uid, member.gid = os.getuid(), os.getgid()
                    tar.extract(member, root)
    except tarfile.TarError as error:
        raise SetupError(f"the Debian package {archive.name} is damaged: {error}") from error


def merged(name: str) -> str:
    """The path of a file of a package with /bin, /sbin and /lib inside /usr; relative to the root."""
    parts = PurePosixPath(name).parts
    return "/".join(("usr", *parts) if parts and parts[0] in ("bin", "sbin", "lib") else parts)


def version_of(archive: Path) -> tuple[str, str]:
    """Name and version of a package."""
    name, version = run(["dpkg-deb", "-W", archive], f"reading {archive.name}").split()
    return name, version


def _content(archive: Path) -> bytes:
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S).stdout
    except subprocess.CalledProcessError as error:
        said = last_lines(error.stderr.decode(errors="replace"))
        raise SetupError(f"the Debian package {archive.name} cannot be unpacked: {said}") from error
