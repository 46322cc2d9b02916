"""Libraries for the GPUs of phones: compiled and linked, not run (the same kernels run in test_opencl_device.py)."""

from __future__ import annotations

import pytest
from tvm_models import model, zoo_network

pytest.importorskip("tvm", reason="Apache TVM is not installed")
pytest.importorskip("ziglang", reason="ziglang is not installed")

from netadapt.measure.platform import TvmRuntime, TvmTarget, load_platform
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.opencl import opencl_target
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)

CONV = Workload("conv", (8,), 16, (14, 14), (3, 3), padding=(1, 1), bias=True, activation="relu")
#: What an ELF file for arm64 has at offset 18.
ARM64 = (183).to_bytes(2, "little")


def phone(gpu):
    target = TvmTarget(kind="opencl", gpu=gpu, mtriple="aarch64-linux-android", mattr=("+neon",), linker="ziglang")
    return TvmRuntime(name="tvm", target=target)


@pytest.mark.parametrize("gpu", ["generic", "adreno", "mali"])
def test_a_library_for_a_phone_has_code_for_its_cpu_and_kernels_for_its_gpu(gpu):
    library = compile_model(workload_to_onnx(CONV), phone(gpu), interior=True)
    assert library.content[:4] == b"\x7fELF"
    assert library.content[18:20] == ARM64
    assert b"__kernel void fused_conv2d" in library.content
    assert library.general_kernels == ()
    assert library.inputs[0].axes == (0, 2, 3, 1)


@pytest.mark.parametrize(
    ("platform", "network"), [("adreno-tvm", "mobilenet_v3_small:0.5@64"), ("mali-tvm", "squeezenet:0.5@64")]
)
def test_zoo_networks_compile_for_phones(platform, network):
    library = compile_model(zoo_network(network), load_platform(platform).runtime)
    assert library.content[18:20] == ARM64
    assert library.general_kernels == ()


def test_kernels_that_none_of_our_schedules_fits_are_named():
    softmax = model([("Softmax", ["x"], ["y"], {"axis": 1})], [("x", (3, 40))], [("y", (3, 40))])
    assert compile_model(softmax, phone("generic")).general_kernels == ("softmax",)


@pytest.mark.parametrize("gpu", ["generic", "adreno", "mali"])
def test_the_target_names_the_gpu_and_its_host(gpu):
    target = opencl_target(phone(gpu).target)
    assert target.kind.name == "opencl"
    assert (gpu in target.keys) == (gpu != "generic")
    assert target.host.attrs["mtriple"] == "aarch64-linux-android"
