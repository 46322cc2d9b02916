"""What links compiled code: real linkers, and those that fail."""

from __future__ import annotations

import platform
import shutil
import sys

import pytest

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from netadapt.errors import MeasurementError
from netadapt.measure.platform import TvmRuntime, TvmTarget
from netadapt.measure.tvm import linker
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.linker import link_command
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)
WORKLOAD = Workload("conv", (8,), 8, (4, 4), bias=True, activation="sigmoid")
#: From the ELF specification: e_ident, then e_type (3 is a shared object) and e_machine, 16 bits each.
SHARED, X86_64, AARCH64 = 3, 62, 183
on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("cc") is None, reason="needs a C compiler for x86-64"
)


def target(**fields):
    return TvmTarget(kind="llvm", **fields)


def library(linked_for):
    return compile_model(workload_to_onnx(WORKLOAD), TvmRuntime(name="tvm", target=linked_for)).content


def elf_header(content):
    assert content[:5] == b"\x7fELF\x02"
    return int.from_bytes(content[16:18], "little"), int.from_bytes(content[18:20], "little")


@pytest.fixture
def script(tmp_path):
    """Makes a command that runs a shell script."""

    def make(text):
        path = tmp_path / "linker"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize("system", ["aarch64-linux-gnu", "aarch64-linux-android"])
def test_ziglang_links_for_arm(system):
    pytest.importorskip("ziglang")
    content = library(target(mtriple=system, mcpu="cortex-a72", mattr=("+neon",), linker="ziglang"))
    assert elf_header(content) == (SHARED, AARCH64)


def test_the_cross_compiler_links_for_arm():
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    content = library(target(mtriple="aarch64-linux-gnu", mcpu="cortex-a53", linker="aarch64-linux-gnu-gcc"))
    assert elf_header(content) == (SHARED, AARCH64)


@on_x86
def test_the_compiler_of_this_machine_links_for_another_core():
    content = library(target(mtriple="x86_64-linux-gnu", mcpu="haswell", linker="cc"))
    assert elf_header(content) == (SHARED, X86_64)


def test_the_same_model_gives_the_same_library():
    pytest.importorskip("ziglang")
    arm = target(mtriple="aarch64-linux-gnu", mcpu="cortex-a72", linker="ziglang")
    assert library(arm) == library(arm)


def test_the_package_of_the_linker_is_started_with_this_python():
    pytest.importorskip("ziglang")
    assert link_command(target(linker="ziglang")) == [sys.executable, "-m", "ziglang", "ld.lld"]


def test_a_linker_that_is_not_there():
    expected = (
        r"'no-such-gcc' is not there; install it, or set runtime\.target\.linker .*'ziglang' \(pip install ziglang\)"
    )
    with pytest.raises(MeasurementError, match=expected):
        library(target(linker="no-such-gcc"))


def test_a_linker_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(linker, "ZIGLANG", "no_such_package")
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MeasurementError, match=r"needs the package ziglang; .* pip install ziglang"):
        link_command(target(linker="no_such_package"))


def test_a_linker_that_fails_is_quoted(script):
    failing = script("echo one >&2; echo two >&2; echo three >&2; echo cannot find -lm >&2; exit 3")
    with pytest.raises(MeasurementError, match=r"linker failed with status 3: two; three; cannot find -lm$"):
        library(target(linker=failing))


@on_x86
def test_a_linker_for_another_machine_fails():
    wrong = target(mtriple="aarch64-linux-gnu", mcpu="cortex-a72", linker="cc")
    with pytest.raises(MeasurementError, match=r"linking: cc failed with status 1: "):
        library(wrong)


def test_a_linker_that_hangs_is_stopped(script, monkeypatch):
    monkeypatch.setattr(linker, "_LIMIT_S", 0.3)
    with pytest.raises(MeasurementError, match=r"linker did not end within 0\.3 s"):
        library(target(linker=script("exec sleep 60")))
