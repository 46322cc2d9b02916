from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import DataError
from netadapt.train.data import Split
from netadapt.train.data.arrays import fit_to_size, split_holdout, stratified_mask


def test_a_stratified_draw_keeps_each_class_share() -> None:
    labels = np.array([0] * 10 + [1] * 20 + [2] * 30)
    chosen = labels[stratified_mask(labels, 12, seed=0)]
    assert np.bincount(chosen).tolist() == [2, 4, 6]


def test_remainders_go_to_the_largest_fractions() -> None:
    labels = np.array([0] * 5 + [1] * 4 + [2] * 1)  # 4 of 10: exact shares 2.0, 1.6, 0.4
    assert np.bincount(labels[stratified_mask(labels, 4, seed=0)], minlength=3).tolist() == [2, 2, 0]


def test_a_draw_never_changes() -> None:
    """Published weights rely on it: another draw would put their training images into the hold-out."""
    labels = np.arange(20) % 2
    assert np.flatnonzero(stratified_mask(labels, 6, seed=2018)).tolist() == [0, 6, 7, 9, 11, 14]


def test_holdout_is_a_tenth_and_shares_no_image_with_training() -> None:
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    train, holdout = split_holdout(Split(images, np.arange(100) % 5))
    assert len(holdout) == 10
    assert sorted([*train.images.flat, *holdout.images.flat]) == list(range(100))
    assert np.bincount(holdout.labels).tolist() == [2, 2, 2, 2, 2]


def test_28_pixels_become_32_by_a_black_margin() -> None:
    images = np.full((2, 1, 28, 28), 9, dtype=np.uint8)
    fitted = fit_to_size(images, 32)
    assert fitted.shape == (2, 1, 32, 32)
    assert np.array_equal(fitted[:, :, 2:30, 2:30], images)
    assert fitted.sum() == images.sum()


def test_other_sizes_are_resized_bilinearly() -> None:
    halves = np.array([[[[0, 100]] * 2]], dtype=np.uint8)
    # Pixel centres of the 4 columns lie at -0.25, 0.25, 0.75, 1.25 of the old ones.
    assert fit_to_size(halves, 4)[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.tile(np.array([0, 200], dtype=np.uint8), (1, 1, 8, 4))
    assert fit_to_size(stripes, 2).mean() == pytest.approx(100, abs=10)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64), "without images"),
        (np.zeros((3, 1, 2, 2), np.uint8), np.zeros(2, np.int64), "3 images but 2 labels"),
        (np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int64), r"not uint8 \[3, 2, 2\]"),
        (np.zeros((3, 1, 2, 2), np.float32), np.zeros(3, np.int64), "not float32"),
    ],
)
def test_impossible_splits_are_refused(images: np.ndarray, labels: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        Split(images, labels)
