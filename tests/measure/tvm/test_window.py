"""Which elements of a window lie in the image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from tvm import sym, tirx

from netadapt.measure.tvm.window import Window


def one_axis(length, kernel, stride=1, padding=0, dilation=1, extra=0):
    """A window that slides along rows of one pixel in height; `extra` is what only ceil_mode counts."""
    out = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 + extra
    return Window((1, length), (1, out), (1, kernel), (1, stride), (0, padding), (1, dilation))


def taps(window, column):
    """First element in the image and how many, as numbers."""
    return tuple(int(sym.Analyzer().simplify(tirx.const(0, "int64") + part)) for part in window.taps(column, 1))


def covered(window, column):
    return [tap for tap in range(window.kernel[1]) if window.covers(column, tap)]


def test_a_window_of_3_on_5_columns():
    window = one_axis(5, 3, padding=1)
    assert window.out_size == (1, 5)
    assert [taps(window, column) for column in range(5)] == [(1, 2), (0, 3), (0, 3), (0, 3), (0, 2)]
    assert [covered(window, column) for column in range(5)] == [[1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1]]
    assert window.is_inside(1, 3)
    assert not window.is_inside(0, 2)
    assert not window.is_inside(3, 2)
    assert not window.is_pointwise


def test_a_stride_of_2_on_5_columns():
    # Columns -1..1, 1..3 and 3..5 of the input.
    window = one_axis(5, 3, stride=2, padding=1)
    assert [window.first(column, 1) for column in range(3)] == [-1, 1, 3]
    assert [taps(window, column) for column in range(3)] == [(1, 2), (0, 3), (0, 2)]
    assert window.is_inside(1, 1)
    assert not window.is_inside(1, 2)


def test_a_dilation_of_2_on_5_columns():
    # Columns -2, 0, 2 and so on.
    window = one_axis(5, 3, padding=2, dilation=2)
    assert [taps(window, column) for column in range(5)] == [(1, 2), (1, 2), (0, 3), (0, 2), (0, 2)]
    assert [covered(window, column) for column in range(5)] == [[1, 2], [1, 2], [0, 1, 2], [0, 1], [0, 1]]


def test_a_window_larger_than_the_image_is_cut_at_both_sides():
    window = one_axis(2, 7, padding=3)
    assert [taps(window, column) for column in range(2)] == [(3, 2), (2, 2)]
    assert window.is_cut(1)
    assert not window.is_inside(0, 1)
    assert window.meets_image


def test_windows_that_lie_in_the_padding_alone():
    # Columns -3, 0 and 3 of an image of three; then -1 and 2 of an image of two.
    some = one_axis(3, 1, stride=3, padding=3)
    assert [covered(some, column) for column in range(3)] == [[], [0], []]
    assert some.meets_image
    none = one_axis(2, 1, stride=3, padding=1)
    assert [covered(none, column) for column in range(2)] == [[], []]
    assert not none.meets_image


def test_a_window_without_padding_is_cut_only_where_ceil_mode_lets_it_reach_out():
    assert not one_axis(6, 3, stride=2).is_cut(1)
    assert taps(one_axis(6, 3, stride=2), 1) == (0, 3)
    reaching = one_axis(6, 3, stride=2, extra=1)
    assert reaching.is_cut(1)
    assert [taps(reaching, column) for column in range(3)] == [(0, 3), (0, 3), (0, 2)]


@pytest.mark.parametrize(
    ("window", "pointwise"),
    [
        (Window((5, 5), (5, 5), (1, 1)), True),
        (Window((5, 5), (3, 3), (1, 1), (2, 2)), False),
        (Window((5, 5), (7, 7), (1, 1), (1, 1), (1, 1)), False),
        (Window((5, 5), (3, 3), (3, 3)), False),
    ],
)
def test_pointwise(window, pointwise):
    assert window.is_pointwise == pointwise


@st.composite
def windows(draw):
    kernel, stride, dilation = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, 8))
    shortest = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
    return one_axis(shortest + draw(st.integers(0, 11)), kernel, stride, padding, dilation)


@given(windows())
def test_all_that_is_said_of_a_window_agrees_with_counting(window):
    begins = [column * window.stride[1] - window.padding[1] for column in range(window.out_size[1])]
    places = [[begin + tap * window.dilation[1] for tap in range(window.kernel[1])] for begin in begins]
    within = [[0 <= place < window.in_size[1] for place in row] for row in places]
    for column, row in enumerate(within):
        assert [window.covers(column, tap) for tap in range(window.kernel[1])] == row
        first, count = taps(window, column)
        assert count == sum(row) or (count <= 0 and not any(row))
        assert not any(row) or first == row.index(True)
    assert window.is_cut(1) == (not all(map(all, within)) or window.padding[1] > 0)
    assert window.meets_image == any(map(any, within))
    for start in range(len(within)):
        for stop in range(start + 1, len(within) + 1):
            assert window.is_inside(start, stop - start) == all(map(all, within[start:stop]))


def test_as_an_annotation_and_back():
    window = Window((5, 6), (3, 4), (2, 3), (1, 2), (0, 1), (2, 1))
    assert window.to_list() == [5, 6, 3, 4, 2, 3, 1, 2, 0, 1, 2, 1]
    assert Window.from_list(window.to_list()) == window
