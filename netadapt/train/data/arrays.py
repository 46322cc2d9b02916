"""Array work every data set needs: drawing stratified samples, and bringing images to the network's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netadapt.train.data.types import Split

SPLIT_SEED = 2018
"""Of every draw that makes a split; another one would show the bundled weights' training images in the hold-out."""

BORDERED_SIZE = 32
"""Images of 28 x 28 get there by a border, not by scaling."""

_HOLDOUT_SHARE = 0.1
_MOST_BYTES = 2**28  # of enlarged images that are kept; more are enlarged a batch at a time
_RESIZE_CHUNK = 1000  # images converted to float at a time: bounds the extra memory at large sizes


def stratified_mask(labels: NDArray[Any], count: int, seed: int) -> NDArray[np.bool_]:
    """Choose ``count`` of the samples so that every class keeps its share; returns a mask [N].

    ``labels`` is [N]. Each class gets its proportional number, remainders going to the largest fractions first.
    """
    # RandomState, not Generator: only its stream is promised to stay the same in every numpy version, and a split
    # that moved would leak training images into the hold-out of published weights.
    random = np.random.RandomState(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / len(labels)
    quotas = np.floor(exact).astype(int)
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for label, quota in zip(classes, quotas, strict=True):
        mask[random.permutation(np.flatnonzero(labels == label))[:quota]] = True
    return mask


def take_out(split: Split, share: float) -> tuple[Split, Split]:
    """Divide a split into what stays and a stratified ``share`` of it (at least one image a class on average)."""
    classes = len(np.unique(split.labels))
    taken = stratified_mask(split.labels, max(classes, round(share * len(split))), SPLIT_SEED)
    return split.part(~taken), split.part(taken)


def split_holdout(split: Split) -> tuple[Split, Split]:
    """Divide training images into those to train on and the tenth that is held out."""
    return take_out(split, _HOLDOUT_SHARE)


def split_at_size(images: NDArray[np.uint8], labels: NDArray[Any], size: int) -> Split:
    """Make a split of uint8 images [N, C, H, W], brought to [N, C, size, size] now or, where that is much, later."""
    small = images.shape[2] * images.shape[3] < size * size
    if small and images.shape[0] * images.shape[1] * size * size > _MOST_BYTES:
        return Split(images, labels, side=size)
    return Split(fit_to_size(images, size), labels)


def fit_to_size(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring uint8 images [N, C, H, W] to [N, C, size, size].

    28 x 28 becomes 32 x 32 by zero padding (the digits' and clothes' margin is black); every other change is an
    anti-aliased bilinear resize.
    """
    if images.shape[2:] == (size, size):
        return images
    if images.shape[2:] == (28, 28) and size == BORDERED_SIZE:
        return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    resized = np.empty((*images.shape[:2], size, size), dtype=np.uint8)
    for start in range(0, len(images), _RESIZE_CHUNK):
        chunk = slice(start, start + _RESIZE_CHUNK)
        resized[chunk] = _resize(images[chunk], size)
    return resized


def _resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    import torch  # here, because listing and checking data sets must not cost its import

    pixels = torch.from_numpy(images).float()
    resized = torch.nn.functional.interpolate(
        pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    array: NDArray[np.uint8] = resized.round().clamp(0, 255).byte().numpy()
    return array
