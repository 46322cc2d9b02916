"""The templates for boards with Linux: run where such a machine is at hand, else compiled."""

from __future__ import annotations

import platform as this_machine
import struct

import pytest
from board_servers import device_server

from netadapt.measure.own_platform import add_platform
from netadapt.measure.platform import load_platform
from netadapt.measure.rpc.device import RpcDevice
from netadapt.measure.rpc.emulated import EmulatedBoard
from netadapt.measure.tvm.compile import compile_model
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)

CONV = Workload("conv", (8,), 16, in_size=(6, 6), kernel=(3, 3), padding=(1, 1), activation="relu")
#: Of ELF: class (1 is 32-bit, 2 is 64-bit) and machine.
ARM32, ARM64, X86 = (1, 40), (2, 183), (2, 62)


@pytest.mark.parametrize(
    ("name", "kind"), [("linux-arm32-tvm", ARM32), ("linux-arm64-tvm", ARM64), ("linux-x86-tvm", X86)]
)
def test_libraries_are_of_the_boards_kind(name, kind):
    library = compile_model(workload_to_onnx(CONV), load_platform(name).runtime, interior=True)
    assert library.content[:4] == b"\x7fELF"
    assert (library.content[4], struct.unpack("<H", library.content[18:20])[0]) == kind
    if kind == ARM32:
        # An armhf system loads a library only if it passes floats in registers: EF_ARM_ABI_FLOAT_HARD.
        assert struct.unpack("<I", library.content[36:40])[0] & 0x400


@pytest.mark.parametrize("name", ["linux-x86-tvm", "linux-ort"])
def test_this_machine_as_a_board(name, tmp_path, monkeypatch):
    if name == "linux-x86-tvm" and this_machine.machine() != "x86_64":
        pytest.skip("this machine is no x86-64")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with device_server() as server:
        add_platform("mine", name, {"rpc": {"server": server.address, "board": "this machine"}})
        with RpcDevice(load_platform("mine")) as device:
            assert device.measure_workload(CONV).value > 0


def test_an_emulated_board_of_the_template_for_arm64(installation, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with EmulatedBoard(load_platform("qemu-aarch64-tvm")) as board:
        add_platform("mine", "linux-arm64-tvm", {"rpc": {"server": board.address, "board": "emulated"}})
        with RpcDevice(load_platform("mine")) as device:
            details = device.workload_details(CONV)
    assert details["max_abs_difference"] < 1e-4
