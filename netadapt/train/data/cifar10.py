"""CIFAR-10, binary version: https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netadapt.errors import DataError
from netadapt.train.data.arrays import split_at_size, split_holdout
from netadapt.train.data.types import Dataset, Split

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"

# Of the 50,000 training images, pixels scaled to 0..1.
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2470, 0.2435, 0.2616)
_IMAGE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
_MOST_RECORDS = 50_000  # five times what a file of CIFAR-10 has


def load(folder: Path, size: int) -> Dataset:
    """Load the six files in ``folder`` (or its ``cifar-10-batches-bin``); a tenth of the training images is held out.

    Raises:
        DataError: a file is missing, empty, truncated, or has labels above 9.

    """
    *train_files, test_file = find_files(folder)
    batches = [_read(file) for file in train_files]
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    train, holdout = split_holdout(split_at_size(images, labels, size))
    test = _read(test_file)
    test = split_at_size(test.images, test.labels, size)
    return Dataset("cifar10", CLASSES, 3, _MEAN, _STD, train, holdout, test, resize="squash")


def find_files(folder: Path) -> list[Path]:
    """Return the six files, the test images last.

    Raises:
        DataError: one is missing, or not an ordinary file.

    """
    unpacked = folder / "cifar-10-batches-bin"
    try:
        files = [(unpacked if unpacked.is_dir() else folder) / name for name in (*TRAIN_FILES, TEST_FILE)]
        missing = [file for file in files if not file.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    if missing:
        raise DataError(f"{missing[0]}: there is no such file; unpack cifar-10-binary.tar.gz and give its folder")
    return files


def _read(path: Path) -> Split:
    try:
        content = np.fromfile(path, dtype=np.uint8, count=_MOST_RECORDS * _RECORD + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; unpack cifar-10-binary.tar.gz and give its folder") from error
    if len(content) > _MOST_RECORDS * _RECORD:
        raise DataError(f"{path}: over {_MOST_RECORDS:,} images; CIFAR-10 has 10,000 in each file")
    if len(content) == 0 or len(content) % _RECORD:
        raise DataError(
            f"{path}: {len(content)} bytes, expected a multiple of {_RECORD} above 0 (a label and a 3 x 32 x 32 image "
            "each); truncated, or not CIFAR-10's binary version"
        )
    records = content.reshape(-1, _RECORD)
    labels = records[:, 0]
    if labels.max() >= len(CLASSES):
        raise DataError(f"{path}: label {labels.max()} found, expected 0 to 9; not CIFAR-10's binary version")
    return Split(records[:, 1:].reshape(-1, *_IMAGE), labels.astype(np.int64))
