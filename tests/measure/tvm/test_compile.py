"""What a model is compiled for, and what makes another compiler of it."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from tvm_models import model

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.platform import TvmTarget, load_platform
from netadapt.measure.tvm import compile as compiling
from netadapt.measure.tvm.compile import compile_model, compiler_target, identity
from netadapt.measure.tvm.cpu_target import cpu_fields
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)
KINDS = ("llvm", "opencl")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of the package, whose files the digest of the schedules is then made of."""
    folder = tmp_path / "tvm"
    shutil.copytree(Path(compiling.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiling, "__file__", str(folder / "compile.py"))
    compiling._sources_digest.cache_clear()
    yield folder
    compiling._sources_digest.cache_clear()


def digests():
    compiling._sources_digest.cache_clear()
    return {kind: identity(kind)["schedules"] for kind in KINDS}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("compile.py", ["llvm", "opencl"]),
        ("importing.py", ["llvm", "opencl"]),
        ("code.py", ["llvm"]),
        ("cpu.py", ["llvm"]),
        ("kernels.py", ["llvm"]),
        ("vector_unit.py", ["llvm"]),
        ("window.py", ["llvm"]),
        ("opencl.py", ["opencl"]),
        ("opencl_schedules.py", ["opencl"]),
        # These change nothing that is timed.
        ("reference.py", []),
        ("checked_library.py", []),
        ("tuning.py", []),
    ],
)
def test_a_change_of_the_sources_makes_other_schedules_where_they_are_used(sources, file, changed):
    before = digests()
    assert len(set(before.values())) == len(KINDS)
    with (sources / file).open("a") as source:
        source.write("# changed\n")
    after = digests()
    assert [kind for kind in KINDS if after[kind] != before[kind]] == changed


def test_the_identity_names_the_versions_of_the_compiler():
    assert identity("llvm").keys() == {"apache-tvm", "apache-tvm-ffi", "schedules"}


def test_the_cpu_of_a_target():
    arm = TvmTarget(kind="llvm", mtriple="aarch64-linux-gnu", mcpu="cortex-a72", mattr=("+neon",))
    assert cpu_fields(arm) == {
        "kind": "llvm",
        "num-cores": 1,
        "mtriple": "aarch64-linux-gnu",
        "mcpu": "cortex-a72",
        "mattr": ["+neon"],
    }
    # Another machine's core is unknown if it is not named; that of this machine LLVM knows.
    assert "mcpu" not in cpu_fields(TvmTarget(kind="llvm", mtriple="aarch64-linux-gnu"))
    assert cpu_fields(TvmTarget(kind="llvm")).keys() == {"kind", "num-cores", "mcpu"}


def test_a_gpu_has_the_cpu_that_starts_its_kernels_as_its_host():
    target = compiler_target(TvmTarget(kind="opencl", gpu="mali", mtriple="aarch64-linux-android", linker="ziglang"))
    assert target.kind.name == "opencl"
    assert target.host.kind.name == "llvm"
    assert target.host.attrs["mtriple"] == "aarch64-linux-android"


def test_threads_may_compile_at_the_same_time():
    runtime = load_platform("tvm-local").runtime
    models = [workload_to_onnx(Workload("conv", (8,), width, (5, 5), (3, 3), (1, 1), (1, 1))) for width in (8, 11, 16)]

    def content(model):
        return compile_model(model, runtime, interior=True).content

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(content, models * 2))
    assert found == [content(model) for model in models] * 2


def test_the_tensors_of_a_library():
    content = workload_to_onnx(Workload("scale", (8, 8), 8, (5, 6)))
    runtime = load_platform("tvm-local").runtime
    whole, inside = (compile_model(content, runtime, interior) for interior in (False, True))
    assert [(tensor.name, tensor.shape) for tensor in whole.inputs] == [("x0", (1, 8, 5, 6)), ("x1", (1, 8, 1, 1))]
    assert [tensor.shape for tensor in inside.inputs] == [tensor.shape for tensor in whole.inputs]
    assert {tensor.axes for tensor in (*whole.inputs, *whole.outputs)} == {(0, 1, 2, 3)}
    assert {tensor.axes for tensor in (*inside.inputs, *inside.outputs)} == {(0, 2, 3, 1)}


def test_errors_call_the_model_by_its_name():
    runtime = load_platform("tvm-local").runtime
    with pytest.raises(ModelError, match=r"^net\.onnx: not a valid ONNX model"):
        compile_model(b"nonsense", runtime, name="net.onnx")
    strange = model([("Det", ["x"], ["y"], {})], [("x", (1, 3, 3))], [("y", (1,))])
    with pytest.raises(MeasurementError, match=r"^net\.onnx: TVM cannot import it: .*Det"):
        compile_model(strange, runtime, name="net.onnx")


def test_without_tvm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(MeasurementError, match=r"needs Apache TVM .*; install it with: pip install '\.\[tvm\]'"):
        compile_model(b"", load_platform("tvm-local").runtime)
