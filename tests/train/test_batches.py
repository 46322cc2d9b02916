from __future__ import annotations

import numpy as np
import pytest
import torch

from netadapt.train import Augmentation, Dataset, Split, load_dataset
from netadapt.train.batches import Normalisation, augment, random_batches, take
from netadapt.train.data.arrays import fit_to_size


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_image_comes_once_an_epoch_with_its_label() -> None:
    split = Split(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.arange(6) + 10)
    batches = list(random_batches(split, 4, 3, generator()))  # 12 images: two epochs, the second batch spans both
    seen = torch.cat([images.flatten() for images, _ in batches]).tolist()
    labels = torch.cat([targets for _, targets in batches]).tolist()
    assert [len(images) for images, _ in batches] == [4, 4, 4]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))
    assert labels == [pixel + 10 for pixel in seen]


def test_a_batch_larger_than_the_split_is_still_full() -> None:
    split = Split(np.zeros((3, 1, 1, 1), np.uint8), np.arange(3))
    (batch,) = random_batches(split, 8, 1, generator())
    assert np.bincount(batch[1]).tolist().count(3) == 2  # 8 = 3 + 3 + 2


def test_augmentation_shifts_by_whole_pixels_and_mirrors() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    windows = [padded[top : top + 3, left : left + 3] for top in range(3) for left in range(3)]
    possible = {tuple(view.flatten().tolist()) for window in windows for view in (window, window.flip(1))}
    changed = augment(image.repeat(500, 1, 1, 1), Augmentation(padding=1, flip=True), generator())
    assert {tuple(row.flatten().tolist()) for row in changed} == possible  # all 18 occur, nothing else


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    assert torch.equal(augment(images, Augmentation(padding=0, flip=False), generator()), images)


def test_channels_of_an_image_move_together() -> None:
    plane = torch.randint(1, 256, (20, 1, 6, 6), dtype=torch.uint8)
    changed = augment(plane.repeat(1, 3, 1, 1), Augmentation(), generator())
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_normalisation_is_by_channel_and_channels_last() -> None:
    split = Split(np.zeros((1, 2, 1, 1), np.uint8), np.zeros(1, np.int64))
    data = Dataset("two", ("a",), 2, (0.2, 0.5), (0.1, 0.25), split, split, split)
    images = Normalisation.of(data)(torch.tensor([51, 255], dtype=torch.uint8).reshape(1, 2, 1, 1))
    torch.testing.assert_close(images.flatten(), torch.tensor([0.0, 2.0]), atol=1e-6, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("shape", "size"), [((50, 1, 28, 28), 48), ((50, 3, 32, 32), 224)])
def test_enlarging_a_batch_at_a_time_gives_the_pixels_of_enlarging_all(shape: tuple[int, ...], size: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    labels = np.arange(50)
    later, before = Split(images, labels, side=size), Split(fit_to_size(images, size), labels)
    assert later.size == before.size == (size, size)
    for one, other in zip(
        random_batches(later, 7, 3, generator()), random_batches(before, 7, 3, generator()), strict=True
    ):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert torch.equal(take(later.sample(9), slice(2, 5))[0], take(before.sample(9), slice(2, 5))[0])


def test_large_images_are_not_all_kept() -> None:
    data = load_dataset("fashion-mnist-mini", 224)
    assert data.train.size == data.holdout.size == (224, 224)
    assert data.train.images.nbytes == 8_500 * 28 * 28  # at 224 x 224 it would be 427 MB
    assert data.holdout.images.nbytes == 1_500 * 224 * 224  # 75 MB are kept, so as not to be enlarged each time
    assert take(data.train, slice(0, 2))[0].shape == (2, 1, 224, 224)


def test_small_images_are_kept_at_their_size() -> None:
    assert load_dataset("fashion-mnist-mini", 32).train.images.shape == (8_500, 1, 32, 32)
