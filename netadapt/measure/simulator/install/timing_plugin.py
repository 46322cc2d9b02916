"""The timing plugin: its C sources compiled on this machine, against the headers of the Capstone that it loads."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import SetupError
from netadapt.measure.simulator.install import wheels
from netadapt.measure.simulator.install.pins import pins
from netadapt.measure.simulator.install.stages import complete_folder, run

SOURCES = Path(__file__).parent.parent / "plugin"
_FLAGS = ("-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
_ADVICE = "install a C compiler, for example with: sudo apt-get install gcc libc6-dev"


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled plugin."""

    library: Path
    compiler: str


def sources_digest() -> str:
    """Hash of the sources and flags, 16 hexadecimal digits."""
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in _sources():
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def compiler() -> tuple[Path, str]:
    """The system's C compiler and its version.

    Raises:
        SetupError: there is none.

    """
    found = shutil.which("cc")
    if found is None:
        raise SetupError(f"the timing plugin is compiled on this machine, and there is no cc on PATH; {_ADVICE}")
    said = run([found, "--version"], "asking the C compiler for its version", 30)
    return Path(found), said.splitlines()[0] if said else "unknown"


def capstone(folder: Path) -> Path:
    """Have Capstone below a folder, and return its shared library.

    Raises:
        SetupError: it cannot be fetched, or there is none for this kind of machine.

    """
    wheel = pins().host_wheel
    if wheel is None:
        raise SetupError("the simulator runs on x86-64 and AArch64 machines only: Capstone is pinned for no other")
    complete_folder(folder / "capstone", lambda scratch: wheels.unpack(wheel, wheels.fetch(wheel, scratch), scratch))
    return folder / "capstone" / "capstone" / "lib" / "libcapstone.so"


def build(folder: Path, capstone_library: Path) -> Built:
    """Have the plugin below a folder, compiled from the present sources by the present compiler.

    Raises:
        SetupError: there is no compiler, or it fails; with its last lines.

    """
    program, version = compiler()
    key = hashlib.sha256(f"{sources_digest()} {version}".encode()).hexdigest()[:16]

    def make(scratch: Path) -> None:
        headers = capstone_library.parent.parent / "include"
        sources = [path for path in _sources() if path.suffix == ".c"]
        command: list[str | Path] = [program, *_FLAGS, "-I", headers, *sources, "-o", scratch / "timing.so", "-ldl"]
        run(command, "compiling the timing plugin", 300)

    complete_folder(folder / "plugin" / key, make)
    return Built(folder / "plugin" / key / "timing.so", version)


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h"))
