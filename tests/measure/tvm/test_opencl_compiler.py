"""An implementation of OpenCL that is there, but older than the processor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyopencl", reason="pyopencl is not installed")

import pyopencl as cl

from netadapt.errors import MeasurementError
from netadapt.measure.device import open_device
from netadapt.measure.tvm.opencl_run import first_device


class Program:
    """Fails as PoCL does on a processor that its compiler does not know."""

    def __init__(self, context: object, source: str) -> None:
        assert "kernel" in source

    def build(self, **options: Any) -> None:
        raise cl.RuntimeError("clBuildProgram failed\n\nerror: unknown target CPU 'generic'\nDevice failed")


def test_a_compiler_that_does_not_know_the_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(type=cl.device_type.CPU, name="pthread-CPU ")
    monkeypatch.setattr(cl, "get_platforms", lambda: [SimpleNamespace(get_devices=lambda: [device])])
    monkeypatch.setattr(cl, "Context", lambda devices: None)
    monkeypatch.setattr(cl, "Program", Program)
    complaint = (
        r"the OpenCL of pthread-CPU cannot build kernels \(error: unknown target CPU 'generic'\); .*install a newer"
    )
    with pytest.raises(MeasurementError, match=complaint):
        first_device()
    pytest.importorskip("tvm", reason="Apache TVM is not installed")
    with pytest.raises(MeasurementError, match=complaint):
        open_device("opencl-local")
