"""What the kernels have to know about the core that they are for."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import target_has_features

#: Cores that issue in order: reading four activations as a vector to multiply by its elements makes them wait.
_IN_ORDER = ("cortex-a53", "cortex-a55", "cortex-a510")


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """Sizes of a core's vector unit and caches."""

    #: float32 numbers in a vector.
    lanes: int
    #: Vectors of results that LLVM keeps in registers, beside the operands.
    most_sums: int
    #: Whether an instruction can multiply by one element of a vector, and reading activations as vectors pays.
    by_element: bool
    first_cache_bytes: int = 32 << 10
    #: Activations that all weights are applied to before the next ones are fetched: a part of the second cache.
    block_bytes: int = 192 << 10


def vector_unit(target: Target) -> VectorUnit:
    """The vector unit of the CPU of a target."""
    triple = str(target.attrs.get("mtriple", ""))
    if triple.startswith(("aarch64", "arm64")) or "neon" in str(target.attrs.get("mattr", "")):
        return VectorUnit(lanes=4, most_sums=21, by_element=str(target.attrs.get("mcpu", "")) not in _IN_ORDER)
    if target_has_features("avx512f", target):
        return VectorUnit(lanes=16, most_sums=20, by_element=False, block_bytes=384 << 10)
    if target_has_features("avx", target):
        return VectorUnit(lanes=8, most_sums=12, by_element=False)
    return VectorUnit(lanes=4, most_sums=12, by_element=False)
