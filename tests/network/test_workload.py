"""Sizes and multiply-accumulates by hand, and the canonical text."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from netadapt.network.workload import ACTIVATIONS, EMPTY_RUN, OPS, Workload

POSITIVE = st.integers(1, 2000)
PAIR = st.tuples(st.integers(0, 300), st.integers(0, 300))

WORKLOADS = st.builds(
    Workload,
    op=st.sampled_from(OPS),
    in_channels=st.lists(POSITIVE, min_size=1, max_size=4).map(tuple),
    out_channels=POSITIVE,
    in_size=PAIR,
    kernel=PAIR,
    stride=PAIR,
    padding=PAIR,
    dilation=PAIR,
    groups=POSITIVE,
    bias=st.booleans(),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    batch=POSITIVE,
)


@pytest.mark.parametrize(
    ("workload", "size", "macs"),
    [
        (Workload("conv", (3,), 8, (9, 7), (3, 3), (2, 2), (1, 1)), (5, 4), 5 * 4 * 8 * 3 * 9),
        (Workload("conv", (3,), 8, (8, 8), (3, 3), (2, 2)), (3, 3), 3 * 3 * 8 * 3 * 9),
        (Workload("conv", (6,), 6, (8, 8), (3, 3), padding=(1, 1), groups=6), (8, 8), 64 * 6 * 9),
        (Workload("conv", (6,), 4, (8, 8), (1, 1), groups=2, batch=3), (8, 8), 3 * 64 * 4 * 3),
        (Workload("conv", (2,), 3, (9, 9), (3, 2), (1, 2), (0, 1), (2, 3)), (5, 4), 5 * 4 * 3 * 2 * 6),
        (Workload("linear", (10,), 4, batch=2), (1, 1), 80),
        (Workload("max_pool", (4,), 4, (8, 8), (3, 3), (2, 2)), (3, 3), 0),
        (Workload("max_pool", (4,), 4, (8, 8), (3, 3), (2, 2), ceil_mode=True), (4, 4), 0),
        (Workload("avg_pool", (4,), 4, (5, 6), (2, 2), (2, 2), (1, 1)), (3, 4), 0),
        (Workload("global_avg_pool", (4,), 4, (5, 6)), (1, 1), 0),
        (Workload("add", (4, 4), 4, (5, 6)), (5, 6), 0),
        (Workload("scale", (4, 4), 4, (5, 6)), (5, 6), 0),
        (Workload("concat", (4, 2), 6, (5, 6)), (5, 6), 0),
        (EMPTY_RUN, (1, 1), 0),
    ],
    ids=str,
)
def test_output_size_and_macs_by_hand(workload: Workload, size: tuple[int, int], macs: int) -> None:
    assert workload.out_size == size
    assert workload.macs == macs


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 6),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_pools_have_the_output_size_of_torch(
    size: tuple[int, int], kernel: int, stride: int, padding: int, ceil_mode: bool
) -> None:
    assume(padding <= kernel // 2)
    assume(min(size) + 2 * padding >= kernel)
    workload = Workload(
        "max_pool", (1,), 1, size, (kernel, kernel), (stride, stride), (padding, padding), ceil_mode=ceil_mode
    )
    pooled = F.max_pool2d(torch.zeros(1, 1, *size), kernel, stride, padding, ceil_mode=ceil_mode)
    assert workload.out_size == tuple(pooled.shape[2:])


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_convolutions_have_the_output_size_of_torch(
    size: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int
) -> None:
    assume(min(size) + 2 * padding >= dilation * (kernel - 1) + 1)
    workload = Workload(
        "conv", (1,), 1, size, (kernel, kernel), (stride, stride), (padding, padding), (dilation, dilation)
    )
    result = F.conv2d(torch.zeros(1, 1, *size), torch.zeros(1, 1, kernel, kernel), None, stride, padding, dilation)
    assert workload.out_size == tuple(result.shape[2:])


@given(WORKLOADS)
def test_text_and_back(workload: Workload) -> None:
    again = Workload.from_json(workload.to_json())
    assert again == workload
    assert hash(again) == hash(workload)
    assert again.to_json() == workload.to_json()


@given(WORKLOADS, WORKLOADS)
def test_digests_are_equal_where_workloads_are(one: Workload, other: Workload) -> None:
    assert (one.digest == other.digest) == (one == other)
    assert Workload.from_json(one.to_json()).digest == one.digest


def test_text_is_canonical() -> None:
    text = Workload("conv", (3,), 8, (9, 7), bias=True).to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert '"in_channels":[3],"in_size":[9,7]' in text


def test_digest_never_changes() -> None:
    # Tables that users have filled are keyed by it.
    assert EMPTY_RUN.digest == "fa6f6de9215f948866fd63d363ce9e96"


def test_names_for_people() -> None:
    assert str(Workload("conv", (3,), 8, (9, 7), (3, 3), (2, 2), activation="relu")) == "conv 3->8 9x7 k3x3 s2 relu"
    assert str(Workload("conv", (8,), 8, (9, 7), groups=8)) == "depthwise 8->8 9x7 k1x1 s1"
    assert str(Workload("concat", (3, 5), 8, (9, 7))) == "concat 3+5->8 9x7"
