"""What is installed, whether it is complete, and the order in which the set-up makes it so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netadapt.errors import SetupError
from netadapt.files import write_atomically
from netadapt.measure.device import Check
from netadapt.measure.lock import MeasuringLock
from netadapt.measure.platform import list_platforms
from netadapt.measure.simulator.install import apt, qemu, timing_plugin, userland
from netadapt.measure.simulator.install.pins import installation_folder, pins
from netadapt.measure.simulator.install.stages import disk_faults_told, remove_leftovers, run

#: What guests import, and the wheels that have it; of those that tell their version.
_MODULES = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
    "tvm": "apache-tvm",
    "tvm_ffi": "apache-tvm-ffi",
    "ml_dtypes": "ml_dtypes",
}
#: Exists while nobody sets up; it is never removed, only locked.
_LOCK = ".lock"
_ANY_PLATFORM = "sim-cortex-a72"
_QEMU, _PLUGIN, _START = "QEMU", "timing plugin", "starting a guest"


@dataclass(frozen=True)
class Installation:
    """A complete installation of the simulator."""

    #: The guest's `/`, without what tells it about its machine: see `guest_root`.
    root: Path
    qemu: Path
    plugin: Path
    capstone_library: Path
    #: Of everything that takes part, by name.
    versions: dict[str, str]
    #: What QEMU's process needs besides an empty environment. `-U` each of them for the guest.
    qemu_environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where guests are started from: everything they are told is relative to it."""
        return self.root.parent


def installed() -> Installation | None:
    """The installation that belongs to this version of netadapt, None unless it is complete. Starts nothing."""
    folder = installation_folder()
    try:
        record = json.loads(record_file(folder).read_text(encoding="utf-8"))
        present = Installation(
            root=folder / "root",
            qemu=Path(record["qemu"]),
            plugin=folder / record["plugin"],
            capstone_library=folder / record["capstone_library"],
            versions=record["versions"],
            qemu_environment=record["qemu_environment"],
        )
        current = record["qemu_state"] == _state(present.qemu)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # Somebody may have cleared a part of the cache.
    return present if current and present.plugin.is_file() and present.root.is_dir() else None


def record_file(folder: Path) -> Path:
    """The file that says what is installed below a folder; versions of netadapt with other plugins have others."""
    return folder / f"installation-{timing_plugin.sources_digest()}.json"


def require(platform: str = _ANY_PLATFORM) -> Installation:
    """The installation.

    Raises:
        SetupError: it is not complete; names the command that makes it so.

    """
    present = installed()
    if present is None:
        # What is set up is the same for all; a platform that a file or a command has made has no name to give.
        named = platform if platform in list_platforms() else _ANY_PLATFORM
        raise SetupError(f"the simulator is not set up; run: netadapt platforms setup {named}")
    return present


def set_up(on_stage: Callable[[str], None]) -> Installation:
    """Make the installation complete, whatever is there of it already.

    Args:
        on_stage: told what is being done.

    Raises:
        SetupError: says what is missing and the command that gets it, or why it could not be fetched or written.

    """
    _require_host()
    folder = installation_folder()
    with disk_faults_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _LOCK).touch()
        with MeasuringLock(folder / _LOCK, lambda other: on_stage(f"waiting for the set-up by {other}")).held():
            return installed() or _make(folder, on_stage)


def missing() -> list[Check]:
    """Tell for each part whether it is there. Raises no error for what is not."""
    folder = installation_folder()
    wheel_names = [wheel.name for wheel in pins().guest_wheels]
    return [
        _check("QEMU with plugins", lambda: _qemu_detail(folder)),
        _check("C compiler", lambda: timing_plugin.compiler()[1]),
        _check("timing plugin", _plugin_detail),
        _check("arm64 userland", lambda: _guest_detail(folder, ["python3.11-minimal", "libc6"]) + _untested(folder)),
        _check("aarch64 wheels", lambda: _guest_detail(folder, wheel_names)),
    ]


def _make(folder: Path, on_stage: Callable[[str], None]) -> Installation:
    remove_leftovers(folder)
    begin = _counted([_QEMU, _PLUGIN, *userland.stages(folder), _START], on_stage)
    # What is quick to fail comes first.
    begin(_QEMU)
    emulator = qemu.ensure(folder, lambda step: begin(_QEMU, step))
    begin(_PLUGIN)
    capstone = timing_plugin.capstone(folder)
    plugin = timing_plugin.build(folder, capstone)
    qemu.require_plugin(emulator, plugin.library)
    root = userland.ensure(folder, emulator, begin)
    begin(_START)
    versions = {"qemu": emulator.version, "compiler": plugin.compiler, "plugin": timing_plugin.sources_digest()}
    if wheel := pins().host_wheel:
        versions["capstone"] = wheel.version
    versions |= userland.versions(root)
    present = Installation(root, emulator.program, plugin.library, capstone, versions, emulator.environment)
    _prove(present)
    _record(folder, present)
    return present


def _counted(stages: Sequence[str], on_stage: Callable[[str], None]) -> Callable[..., None]:
    """Report stages and steps within them, with which of how many they are."""

    def begin(stage: str, step: str = "") -> None:
        place = f"{stages.index(stage) + 1} of {len(stages)}"
        on_stage(f"stage {place}: {stage}" + (f", {step}" if step else ""))

    return begin


def _prove(present: Installation) -> None:
    """Import the runtimes in a guest, with the plugin's QEMU."""
    modules = ", ".join(_MODULES)
    code = (
        "import surroundings, os, sys; os.environ['TVM_USE_RUNTIME_LIB'] = '1'; sys.path.append('/netadapt/site');"
        f"import {modules}; print(*(module.__version__ for module in ({modules})))"
    )
    command = [*userland.python_command(present.qemu, present.root.name), "-c", code]
    said = run(command, "importing the runtimes in a guest", 120, present.qemu_environment, present.folder)
    pinned = {wheel.name: wheel.version for wheel in pins().guest_wheels}
    expected = " ".join(pinned[distribution] for distribution in _MODULES.values())
    if said.strip() != expected:
        raise SetupError(f"the guest imported versions {said.strip()} of its runtimes, expected {expected}")


def _record(folder: Path, present: Installation) -> None:
    record: dict[str, Any] = {
        "qemu": str(present.qemu),
        "qemu_state": _state(present.qemu),
        "qemu_environment": present.qemu_environment,
        "plugin": str(present.plugin.relative_to(folder)),
        "capstone_library": str(present.capstone_library.relative_to(folder)),
        "versions": present.versions,
    }
    write_atomically(record_file(folder), json.dumps(record, indent=1, sort_keys=True).encode())


def _state(program: Path) -> list[int]:
    """What changes when a program is replaced by another version."""
    status = program.stat()
    return [status.st_size, status.st_mtime_ns]


def _require_host() -> None:
    if not sys.platform.startswith("linux"):
        raise SetupError(
            f"the simulator needs Linux (QEMU's user mode emulation exists there only), not {sys.platform}"
        )
    apt.require_apt()


def _check(what: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(what, True, ask())
    except (SetupError, OSError, ValueError) as error:
        return Check(what, False, str(error))


def _qemu_detail(folder: Path) -> str:
    found = qemu.find(folder)
    if found is None:
        raise SetupError(f"{qemu.PROGRAM} is not on PATH; the set-up gets it")
    return f"{found.program}, version {found.version}"


def _plugin_detail() -> str:
    present = installed()
    if present is None:
        raise SetupError("not set up with the present QEMU and sources of the plugin")
    return f"sources {present.versions['plugin']}, capstone {present.versions.get('capstone', 'unknown')}"


def _guest_detail(folder: Path, names: Sequence[str]) -> str:
    if not (folder / "root").is_dir():
        raise SetupError("not set up, or by another version of netadapt")
    found = userland.versions(folder / "root")
    return ", ".join(f"{name} {found.get(name, 'unknown')}" for name in names)


def _untested(folder: Path) -> str:
    differing = userland.untested(userland.versions(folder / "root"))
    if not differing:
        return ""
    return f"; the figures of this repository were made with {', '.join(differing)}, and may differ by a few cycles"
