"""The CPU that code is compiled for, as TVM describes it."""

from __future__ import annotations

from functools import cache
from typing import Any

from netadapt.measure.platform import TvmTarget


def cpu_fields(target: TvmTarget) -> dict[str, Any]:
    """The CPU of a target: the device's own, or the one that starts the kernels of its GPU."""
    fields: dict[str, Any] = {"kind": "llvm", "num-cores": 1}
    if target.mtriple:
        fields["mtriple"] = target.mtriple
    if target.mcpu or not target.mtriple:
        fields["mcpu"] = target.mcpu or _this_cpu()
    if target.mattr:
        fields["mattr"] = list(target.mattr)
    if target.mtriple and target.mtriple.endswith("eabihf"):
        # Such a system loads nothing else, and TVM does not take it from the name.
        fields["mfloat-abi"] = "hard"
    return fields


@cache
def _this_cpu() -> str:
    import tvm

    name: str = tvm.target.codegen.llvm_get_system_cpu()
    return name
