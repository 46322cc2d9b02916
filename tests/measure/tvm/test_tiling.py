"""How outputs are cut into tiles of registers, and weights into panels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from tvm.target import Target

from netadapt.measure.tvm.code import even, pieces
from netadapt.measure.tvm.kernels import Tiling, packed, tiling
from netadapt.measure.tvm.vector_unit import VectorUnit, vector_unit

NEON = VectorUnit(lanes=4, most_sums=21, by_element=True)
AVX = VectorUnit(lanes=8, most_sums=12, by_element=False)
AVX512 = VectorUnit(lanes=16, most_sums=20, by_element=False)
units = st.sampled_from([NEON, AVX, AVX512])


def arm(core, triple="aarch64-linux-gnu", features=("+neon",)):
    return vector_unit(Target({"kind": "llvm", "mtriple": triple, "mcpu": core, "mattr": list(features)}))


def x86(core):
    return vector_unit(Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": core}))


def test_pieces_by_hand():
    assert pieces(20, 8) == [(0, 2, 8), (16, 1, 4)]
    assert pieces(16, 8) == [(0, 2, 8)]
    assert pieces(5, 8) == [(0, 1, 5)]
    assert even(13, 8) == 7
    assert even(16, 8) == 8
    assert even(17, 8) == 6
    assert even(3, 8) == 3


@given(st.integers(1, 400), st.integers(1, 50))
def test_pieces_cover_all_once(total, size):
    covered = [
        start + turn * length + index
        for start, count, length in pieces(total, size)
        for turn in range(count)
        for index in range(length)
    ]
    assert covered == list(range(total))
    assert all(length <= size for _, _, length in pieces(total, size))


@given(st.integers(1, 400), st.integers(1, 50))
def test_even_pieces_are_as_few_as_possible_and_of_about_one_size(total, most):
    size = even(total, most)
    assert size <= most
    number = -(-total // size)
    assert number == -(-total // most)
    assert size - 1 < total / number <= size


@given(units, st.integers(1, 13000), st.integers(1, 5000), st.integers(1, 1300))
def test_a_tile_fits_into_the_registers(unit, pixels, depth, channels):
    tile = tiling(unit, pixels, depth, channels)
    assert 1 <= tile.pixels * tile.vectors <= unit.most_sums
    assert tile.pixels <= pixels


@pytest.mark.parametrize("unit", [NEON, AVX, AVX512], ids=["neon", "avx", "avx512"])
def test_large_products_use_most_registers(unit):
    tile = tiling(unit, 196, 512, 512)
    assert tile.pixels * tile.vectors >= 0.75 * unit.most_sums


def test_a_single_pixel_gets_independent_sums_from_its_channels():
    assert tiling(NEON, 1, 1024, 1000) == Tiling(1, 8)


def test_packed_weights_by_hand():
    # Two vectors of 4 make panels of 8 channels; 10 channels are one panel and 2 of the next.
    weights = np.arange(20, dtype=np.float32).reshape(2, 10) + 1
    found = packed(weights, Tiling(3, 2), NEON)
    assert found.shape == (2, 2, 8)
    np.testing.assert_array_equal(found[0], weights[:, :8])
    np.testing.assert_array_equal(found[1, :, :2], weights[:, 8:])
    assert not found[1, :, 2:].any()


@given(units, st.integers(1, 4), st.integers(1, 30), st.integers(1, 90))
def test_packed_weights_can_be_unpacked(unit, vectors, depth, channels):
    weights = np.random.default_rng(0).standard_normal((depth, channels)).astype(np.float32)
    panels = packed(weights, Tiling(1, vectors), unit)
    assert panels.flags.c_contiguous
    assert panels.shape[1:] == (depth, vectors * unit.lanes)
    flat = panels.transpose(1, 0, 2).reshape(depth, -1)
    np.testing.assert_array_equal(flat[:, :channels], weights)
    assert not flat[:, channels:].any()
    assert flat.shape[1] - channels < vectors * unit.lanes


def test_the_vector_units_of_arm():
    assert arm("cortex-a72") == VectorUnit(lanes=4, most_sums=21, by_element=True)
    assert arm("cortex-a76", "aarch64-linux-android") == arm("cortex-a72")
    # In order: a vector of activations would be waited for.
    assert arm("cortex-a53") == VectorUnit(lanes=4, most_sums=21, by_element=False)
    assert arm("cortex-a55") == arm("cortex-a53")


def test_the_vector_units_of_x86():
    assert x86("haswell") == VectorUnit(lanes=8, most_sums=12, by_element=False)
    assert (x86("skylake-avx512").lanes, x86("skylake-avx512").most_sums) == (16, 20)
    assert x86("nehalem").lanes == 4
