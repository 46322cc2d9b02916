"""System calls show a guest the same host everywhere, so that nothing in it depends on the real one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time

import machine_code as a64
import pytest
from machine_code import DATA, leave, system_call
from simulator_fixtures import WARM_UP, Simulator, core, mark

from netadapt.measure.platform import load_platform
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.guest import Guest
from netadapt.measure.simulator.runtimes import guest_runtime
from netadapt.network.workload import Workload

REALTIME, MONOTONIC = 0, 1
NEWFSTATAT, FSTAT, WRITE, CLOCK_GETTIME, SYSINFO, CLONE, WAIT4 = 79, 80, 64, 113, 179, 220, 260
SIGCHLD = 17
PLATFORM = load_platform("sim-cortex-a72")
CONV = Workload("conv", (32,), 48, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")

pytestmark = [pytest.mark.usefixtures("installation"), pytest.mark.timeout(120)]


@pytest.fixture
def simulator(installation, tmp_path):
    return Simulator(installation, tmp_path)


def numbers(output, size=8):
    return [int.from_bytes(output[at : at + size], "little") for at in range(0, len(output), size)]


# ---- Single system calls


@pytest.mark.parametrize("first", [[], mark(WARM_UP)], ids=["before", "after"])
def test_clocks_stand_still(simulator, first):
    reads = [
        system_call(CLOCK_GETTIME, clock, DATA + 16 * place) for place, clock in enumerate((REALTIME, MONOTONIC) * 2)
    ]
    # The first system call may be a clock's.
    output = simulator.start(core(), reads, first, reads, system_call(WRITE, 1, DATA, 64))
    date, since_start = numbers(output)[:2], numbers(output)[2:4]
    assert numbers(output) == [*date, *since_start] * 2
    assert date == [1_700_000_000, 500_000_000]
    assert since_start == [1000, 500_000_000]


def test_a_clock_that_there_is_not_stays_an_error(simulator):
    assert simulator.start(core(), system_call(CLOCK_GETTIME, 99, DATA), system_call(WRITE, 1, DATA, 16)) == bytes(16)


@pytest.mark.parametrize(
    "call", [(FSTAT, 0, DATA), (NEWFSTATAT, 0, DATA + 1024, DATA, 0x1000)], ids=["fstat", "fstatat"]
)
def test_files_have_no_owner_and_no_age(simulator, call):
    file = simulator.folder / "input"
    file.write_bytes(bytes(5000))
    os.chmod(file, 0o640)
    os.utime(file, (7, 8))
    with file.open() as stdin:
        output = simulator.start(core(), system_call(*call), system_call(WRITE, 1, DATA, 128), stdin=stdin)
    status = file.stat()
    words, halves = numbers(output), numbers(output, 4)
    # What distinguishes one file from another stays.
    assert words[:2] == [status.st_dev, status.st_ino]
    assert halves[4:8] == [status.st_mode, 1, 0, 0]
    assert (words[6], halves[14], words[8]) == (5000, 4096, 10)
    assert words[9:15] == [1_700_000_000, 500_000_000] * 3


def test_there_are_two_gigabytes(simulator):
    output = simulator.start(core(), system_call(SYSINFO, DATA), system_call(WRITE, 1, DATA, 112))
    assert numbers(output)[:6] == [1000, 0, 0, 0, 2 << 30, 1 << 30]


@pytest.mark.parametrize("serves", ["on", "off"])
def test_a_server_that_has_forked_what_is_timed_is_shown_the_host(simulator, serves):
    read = [system_call(CLOCK_GETTIME, REALTIME, DATA), system_call(WRITE, 1, DATA, 16)]

    def fork(label):
        wait = system_call(WAIT4, (1 << 64) - 1, 0, 0, 0)
        return [system_call(CLONE, SIGCHLD, 0, 0, 0, 0), a64.cbz(0, label), wait]

    # The first process, its first fork, the fork of that, and another fork of the first process.
    first = ["first", fork("second"), read, leave(), "second", read, leave()]
    program = [read, fork("first"), read, fork("last"), leave(), first, "last", read]
    seconds = numbers(simulator.start(core(), program, serves=serves))[::2]
    before, inner, child, parent, other = seconds
    assert before == inner == child == 1_700_000_000
    if serves == "on":
        assert all(abs(shown - time.time()) < 60 for shown in (parent, other))
    else:
        assert parent == other == 1_700_000_000


# ---- Whole guests


@pytest.fixture(scope="module")
def expected(installation):
    return counts(installation)


def counts(installation):
    runtime = guest_runtime(PLATFORM.runtime)
    with Guest(installation, load_core(PLATFORM.core), runtime.warm_up()) as guest:
        return guest.measure(runtime.of_workload(CONV))


@pytest.fixture(scope="module")
def other_host(tmp_path_factory):
    """A library that shows QEMU another host."""
    library = tmp_path_factory.mktemp("host") / "other_host.so"
    source = os.path.join(os.path.dirname(__file__), "other_host.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", source, "-o", library], check=True)
    return library


@pytest.mark.parametrize(
    "differences",
    [
        # ONNX Runtime reports on a session that is older than two seconds.
        {"OTHER_SPEED": "1000"},
        {"OTHER_SECONDS": "-1000000000"},
        # Python's buffers are as large as a block of the disk.
        {"OTHER_FILES": "1"},
        {"OTHER_MEMORY": str(1 << 42)},
    ],
    ids=lambda differences: next(iter(differences)).lower(),
)
def test_on_another_host(installation, expected, other_host, differences):
    environment = {**installation.qemu_environment, "LD_PRELOAD": str(other_host), **differences}
    assert counts(dataclasses.replace(installation, qemu_environment=environment)) == expected
