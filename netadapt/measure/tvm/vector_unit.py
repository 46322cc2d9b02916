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

    #: float32 numbers in a vector, and vector registers.
    lanes: int
    registers: int
    #: Whether an instruction can multiply by one element of a vector, and reading activations as vectors pays.
    by_element: bool
    #: Activations that are worked on until all weights have been applied to them should fit into this.
    block_bytes: int = 192 << 10
    #: More pixels in a tile make LLVM keep some in memory.
    most_pixels: int = 8


def vector_unit(target: Target) -> VectorUnit:
    """The vector unit of the CPU of a target."""
    triple = str(target.attrs.get("mtriple", ""))
    if triple.startswith(("aarch64", "arm64")) or "neon" in str(target.attrs.get("mattr", "")):
        return VectorUnit(lanes=4, registers=32, by_element=str(target.attrs.get("mcpu", "")) not in _IN_ORDER)
    if target_has_features("avx512f", target):
        return VectorUnit(lanes=16, registers=32, by_element=False, block_bytes=384 << 10, most_pixels=12)
    if target_has_features("avx", target):
        return VectorUnit(lanes=8, registers=16, by_element=False)
    return VectorUnit(lanes=4, registers=16, by_element=False)
