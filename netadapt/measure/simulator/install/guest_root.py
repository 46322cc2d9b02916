"""The root folder of a guest: the installed files, and files that show one core of a named kind, not the host.

QEMU maps a path of the guest into this folder if something lies there, and otherwise takes the host's file of that
path. So what a guest opens and must not see of the host is shadowed here, by an empty file or folder where need be.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import SetupError
from netadapt.measure.simulator.install.installation import Installation
from netadapt.measure.simulator.install.stages import complete_folder, disk_faults_told

_FILES = Path(__file__).parent.parent / "guest_files"
_ARM = 0x41
_CPU = "sys/devices/system/cpu"
#: Folders of the host that a guest finds empty.
_EMPTY_FOLDERS = ("sys/class/drm", "sys/class/thermal", "sys/bus/pci/devices", "sys/devices/system/node")
_ARMV8_0 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a core names itself: part number, variant and revision of its MIDR_EL1, and what Linux calls its features.

    Source: the MIDR_EL1 sections of Arm's Technical Reference Manuals, the newest revision each describes.
    """

    part: int
    variant: int
    revision: int
    features: str

    @property
    def midr(self) -> int:
        """The register; architecture 0xF says that features are in other registers."""
        return _ARM << 24 | self.variant << 20 | 0xF << 16 | self.part << 4 | self.revision


CPUS = {
    "cortex-a53": _Kind(0xD03, 0, 4, _ARMV8_0),
    "cortex-a55": _Kind(0xD05, 2, 0, _ARMV8_2),
    "cortex-a57": _Kind(0xD07, 1, 3, _ARMV8_0),
    "cortex-a72": _Kind(0xD08, 0, 3, _ARMV8_0),
    "cortex-a76": _Kind(0xD0B, 4, 1, _ARMV8_2),
    "neoverse-n1": _Kind(0xD0C, 4, 1, _ARMV8_2),
}


def computes_float16(cpu: str) -> bool:
    """Whether libraries find half-precision arithmetic on a core of this name."""
    return cpu in CPUS and "asimdhp" in CPUS[cpu].features.split()


def guest_root(present: Installation, cpu: str, mhz: int, cache_bytes: Sequence[int]) -> Path:
    """The root folder for guests on a machine with one core; made if need be, and shared by all that ask for the same.

    It takes no room: the files are hard links to the installed ones. Its path has the same length for every core.

    Args:
        present: the installation.
        cpu: what the guest is told its core is, one of `CPUS`. Libraries choose kernels by it.
        mhz: what it is told the clock is.
        cache_bytes: sizes of the data caches it is told of, L1 first.

    Raises:
        SetupError: there is no such cpu, or the folder cannot be written.

    """
    if cpu not in CPUS:
        raise SetupError(f"a guest cannot be told that it runs on {cpu!r}; choose one of: {', '.join(sorted(CPUS))}")
    files = _machine_files(CPUS[cpu], mhz, cache_bytes)
    # What a board is called; others than PCs have it.
    files["proc/device-tree/model"] = f"{cpu} in QEMU\0"
    files |= {str(path.relative_to(_FILES)): path.read_text() for path in sorted(_FILES.rglob("*")) if path.is_file()}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    folder = present.folder / "roots" / digest

    def make(scratch: Path) -> None:
        shutil.copytree(present.root, scratch, symlinks=True, copy_function=_link, dirs_exist_ok=True)
        for name in _EMPTY_FOLDERS:
            (scratch / name).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is there is the same file as the installed one.
            path.unlink(missing_ok=True)
            path.write_text(content)

    with disk_faults_told(present.folder):
        complete_folder(folder, make)
    return folder


def _machine_files(kind: _Kind, mhz: int, cache_bytes: Sequence[int]) -> dict[str, str]:
    """What /proc and /sys tell about the one core."""
    files = {"proc/cpuinfo": _cpuinfo(kind)}
    files |= {f"{_CPU}/{name}": "0\n" for name in ("possible", "present", "online", "kernel_max")}
    core = {
        "regs/identification/midr_el1": f"0x{kind.midr:016x}",
        "cpufreq/cpuinfo_max_freq": str(mhz * 1000),
        "cpufreq/cpuinfo_min_freq": str(mhz * 1000),
        "cpufreq/scaling_cur_freq": str(mhz * 1000),
        "cpufreq/stats/time_in_state": f"{mhz * 1000} 0",
        "cpu_capability": "1024",
        "topology/physical_package_id": "0",
        "topology/core_id": "0",
    }
    for group in ("core_siblings", "thread_siblings", "core_cpus", "cluster_cpus", "package_cpus"):
        core |= {f"topology/{group}": "1", f"topology/{group}_list": "0"}
    for index in range(4):
        core |= {f"cache/index{index}/{name}": text for name, text in _cache(index, cache_bytes).items()}
    files |= {f"{_CPU}/cpu0/{name}": f"{text}\n" if text else "" for name, text in core.items()}
    # Another place where Linux kept the same.
    files[f"{_CPU}/cpufreq/stats/cpu0/time_in_state"] = f"{mhz * 1000} 0\n"
    return files


def _cache(index: int, cache_bytes: Sequence[int]) -> dict[str, str]:
    """Linux's description of a cache: index 0 and 1 are L1 data and instructions, 2 and 3 the levels behind."""
    level = max(index, 1)
    if level > len(cache_bytes):
        return dict.fromkeys(("level", "type", "size", "shared_cpu_map"), "")
    return {
        "level": str(level),
        "type": ("Data", "Instruction", "Unified", "Unified")[index],
        "size": f"{cache_bytes[level - 1] // 1024}K",
        "shared_cpu_map": "1",
        "coherency_line_size": "64",
    }


def _cpuinfo(kind: _Kind) -> str:
    lines = {
        "processor": "0",
        "BogoMIPS": "100.00",
        "Features": kind.features,
        "CPU implementer": f"0x{_ARM:02x}",
        "CPU architecture": "8",
        "CPU variant": f"0x{kind.variant:x}",
        "CPU part": f"0x{kind.part:03x}",
        "CPU revision": str(kind.revision),
    }
    return "".join(f"{name}\t: {value}\n" for name, value in lines.items()) + "\n"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # Not every file system has hard links.
        shutil.copy2(source, target, follow_symlinks=False)
