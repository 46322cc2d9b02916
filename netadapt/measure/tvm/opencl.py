"""What TVM needs to compile for the OpenCL of a GPU: its target, and the passes up to scheduled kernels."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.s_tir import dlight

from netadapt.measure.platform import TvmTarget
from netadapt.measure.tvm.cpu_target import cpu_fields
from netadapt.measure.tvm.importing import channels_last
from netadapt.measure.tvm.library import GENERAL
from netadapt.measure.tvm.opencl_schedules import Elementwise, Sums


def opencl_target(target: TvmTarget) -> tvm.target.Target:
    """TVM's description of a GPU, and of the CPU that starts its kernels."""
    fields: dict[str, Any] = {"kind": "opencl", "host": cpu_fields(target)}
    if target.gpu != "generic":
        fields["device"] = target.gpu
    return tvm.target.Target(fields)


def opencl_pipeline(target: TvmTarget) -> tvm.ir.transform.Pass:
    """The passes from an imported model to kernels whose loops are divided among work-items.

    Images become `[N, H, W, C]` inside. All tensors are plain buffers: textures, which TVM can use on Adreno, take
    other layouts and have no counterpart on the OpenCL that the kernels are tested on.
    """
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            tvm.transform.module_pass(lambda module, _: channels_last(module), opt_level=0, name="channels_last"),
            tvm.tirx.transform.BindTarget(opencl_target(target)),
            transform.LegalizeOps(),
            transform.AnnotateTIROpPattern(),
            transform.FoldConstant(),
            transform.FuseOps(),
            transform.FuseTIR(),
            transform.DeadCodeElimination(),
            # Here, because a reshape is not to be told from other kernels once it has a schedule.
            transform.RewriteDataflowReshape(),
            dlight.ApplyDefaultSchedule(Sums(), Elementwise(), _General()),
        ]
    )


class _General(dlight.gpu.Fallback):  # type: ignore[misc]  # tvm has no types
    """TVM's rule for kernels of every kind, for those that are neither sums nor elementwise."""

    def apply(self, func: tvm.tirx.PrimFunc, target: tvm.target.Target, tunable: bool) -> tvm.s_tir.Schedule | None:
        """Schedule the kernel, and mark it as one that may be slow."""
        return super().apply(func.with_attr(GENERAL, True), target, tunable)
