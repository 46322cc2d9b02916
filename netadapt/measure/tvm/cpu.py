"""The passes for CPUs."""

from __future__ import annotations

import tvm
from tvm import relax

from netadapt.measure.platform import TvmTarget
from netadapt.measure.tvm.importing import channels_last

GENERAL = "netadapt.general"


def cpu_pipeline(target: TvmTarget) -> tvm.ir.transform.Pass:
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            tvm.transform.module_pass(lambda module, _: channels_last(module), opt_level=0, name="channels_last"),
            transform.LegalizeOps(),
            transform.AnnotateTIROpPattern(),
            transform.FoldConstant(),
            transform.FuseOps(),
            transform.FuseTIR(),
            transform.DeadCodeElimination(),
        ]
    )
