"""Where results come from: which code made them, on what, without names of host or user."""

from __future__ import annotations

import hashlib
import json
import platform as python_platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import netadapt
from netadapt.measure import machine
from netadapt.measure.device import Device, runtime_module
from netadapt.results.schema import Made

#: What decides the weights of a trained network, bit by bit, besides this package and the vectors of the CPU.
_TRAINING = ("torch", "torch-pruning", "numpy", "pillow")
_MEASURING = ("onnx", "onnxruntime")
#: Rooms of the package in which numbers come about; the others show them.
_DECISIVE_ROOMS = ("lut", "measure", "network", "search", "train", "zoo")

_INSTALLED = Path(netadapt.__file__).parent


def made(checkout: Path) -> Made:
    """When, and by what version.

    The commit is that of the checkout the benchmark is in, if the package that runs is the one of the checkout: a
    wheel made from it, as tox installs, says nothing about commits itself.
    """
    source = checkout / "netadapt"
    own = source.is_dir() and _digest_of(source) == _digest_of(_INSTALLED)
    now = datetime.now(UTC)
    return Made(
        date=now.date().isoformat(),
        time=now.time().isoformat("seconds"),
        commit=machine.commit_of(checkout) if own else None,
        netadapt=netadapt.__version__,
    )


@cache
def code_digest() -> str:
    """Digest of the code, as it is installed, that decides what a case finds; 16 hexadecimal digits."""
    text = " ".join(_digest_of(_INSTALLED / room) for room in _DECISIVE_ROOMS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def platform_environment(device: Device) -> dict[str, str]:
    """What the numbers of a platform's clock depend on; on a simulated one, only what decides their digits."""
    identity = runtime_module(device.platform).identity(device.platform)
    decisive = {f"platform {name}": value for name, value in identity.items()}
    decisive |= _versions(_TRAINING) | {"vectors": machine.vector_extension()}
    return decisive if device.platform.tier == "simulated" else decisive | host_environment()


def host_environment() -> dict[str, str]:
    """What the time that work takes on this machine depends on."""
    return {
        **_versions((*_TRAINING, *_MEASURING)),
        "python": python_platform.python_version(),
        "system": machine.operating_system(),
        "cpu": machine.cpu_model(),
        "vectors": machine.vector_extension(),
        "cores": str(machine.cores()),
    }


def host_fingerprint() -> str:
    """Digest of what changes how long work takes on this machine, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(host_environment(), sort_keys=True).encode()).hexdigest()[:16]


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    return {name: metadata.version(name) for name in distributions}


def _digest_of(package: Path) -> str:
    """Digest of the source files of a package; a wheel has bundled definitions beside them."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
