"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747, MIT licence) and the small part of it that is bundled."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from netadapt.errors import DataError
from netadapt.train.data.arrays import BORDERED_SIZE, SPLIT_SEED, split_at_size, stratified_mask
from netadapt.train.data.idx import read_idx
from netadapt.train.data.types import Dataset

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MINI_FILE = Path(__file__).with_name("fashion-mnist-mini.npz")
MINI_SHA256 = "be39fe144504597d7b60b5d9f4b20a4d736b444a1cc8b83e3db16b57648ca8b5"

# Of the unpadded 28 x 28 training images, pixels scaled to 0..1. Fixed, so that weights trained on the full set
# see the same input on the mini set.
_MEAN = (0.2860,)
_STD = (0.3530,)

_HOLDOUT_COUNT = 5_000
_MINI_COUNTS = {"train": 8_500, "holdout": 1_500, "test": 2_000}

RawSplits = dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Name of the part -> (images [N, 28, 28], labels [N])."""


def user_folder() -> Path:
    """Return where ``netadapt data fetch`` puts the four files for this user."""
    return platformdirs.user_data_path("netadapt") / "fashion-mnist"


def find_folder() -> Path:
    """Return the first folder that holds all four files.

    Looks in ``$NETADAPT_DATA`` and its ``fashion-mnist``, the user's data folder, and the Debian package's folder.

    Raises:
        DataError: none of them does.

    """
    folders = [user_folder(), SYSTEM_FOLDER]
    if named := os.environ.get("NETADAPT_DATA"):
        folders = [Path(named), Path(named) / "fashion-mnist", *folders]
    for folder in folders:
        if all((folder / name).is_file() for name in FILES):
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(f"Fashion-MNIST is not in any of: {looked}; run `netadapt data fetch` or set NETADAPT_DATA")


def load_full(size: int) -> Dataset:
    """Load all 70,000 images: 55,000 train, 5,000 hold-out (of the 60,000, stratified), 10,000 test.

    Raises:
        DataError: the files are not found or not what they should be.

    """
    return _dataset("fashion-mnist", read_splits(find_folder()), size)


def load_mini(size: int) -> Dataset:
    """Load the bundled part: 8,500 train, 1,500 hold-out, 2,000 test, each drawn from that part of the full set.

    Raises:
        DataError: the bundled file is missing or damaged.

    """
    try:
        content = MINI_FILE.read_bytes()
    except OSError as error:
        raise _mini_damaged(str(error)) from error
    # Nothing that is not the bundled file is unpacked: a damaged archive can be anything, and of any size.
    if (found := hashlib.sha256(content).hexdigest()) != MINI_SHA256:
        raise _mini_damaged(f"SHA-256 {found}, expected {MINI_SHA256}")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        splits = {part: (file[f"{part}_images"], file[f"{part}_labels"]) for part in _MINI_COUNTS}
    return _dataset("fashion-mnist-mini", splits, size)


def make_mini(source: Path, destination: Path) -> Path:
    """Write the mini set's file ``destination`` (.npz) from the four files in folder ``source``.

    Every part is a stratified draw from the same part of the full set, so weights trained on the full training part
    have seen neither the mini hold-out nor the mini test images.

    Raises:
        DataError: the source files are not what they should be.

    """
    arrays = {}
    for part, (images, labels) in read_splits(source).items():
        chosen = stratified_mask(labels, _MINI_COUNTS[part], SPLIT_SEED)
        arrays[f"{part}_images"] = images[chosen]
        arrays[f"{part}_labels"] = labels[chosen]
    np.savez_compressed(destination, allow_pickle=False, **arrays)
    return destination


def read_splits(folder: Path) -> RawSplits:
    """Read the four files in ``folder`` and take the hold-out off the training images.

    Raises:
        DataError: a file is missing, truncated or mislabelled.

    """
    images, labels = _read_pair(folder / FILES[0], folder / FILES[1])
    holdout = stratified_mask(labels, _HOLDOUT_COUNT, SPLIT_SEED)
    return {
        "train": (images[~holdout], labels[~holdout]),
        "holdout": (images[holdout], labels[holdout]),
        "test": _read_pair(folder / FILES[2], folder / FILES[3]),
    }


def _read_pair(images_file: Path, labels_file: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = read_idx(images_file, dimensions=3)
    labels = read_idx(labels_file, dimensions=1)
    if len(images) == 0:
        raise DataError(f"{images_file}: holds no images; fetch the data again")
    if len(images) != len(labels):
        raise DataError(f"{labels_file}: {len(labels)} labels for the {len(images)} images of {images_file.name}")
    if labels.max() >= len(CLASSES):
        raise DataError(f"{labels_file}: label {labels.max()} found, expected 0 to {len(CLASSES) - 1}")
    return images, labels


def _mini_damaged(reason: str) -> DataError:
    return DataError(f"{MINI_FILE}: damaged or missing ({reason}); install netadapt again")


def _dataset(name: str, splits: RawSplits, size: int) -> Dataset:
    parts = {
        part: split_at_size(images[:, None], labels.astype(np.int64), size) for part, (images, labels) in splits.items()
    }
    resize = "border" if size == BORDERED_SIZE else "squash"
    return Dataset(name, CLASSES, 1, _MEAN, _STD, parts["train"], parts["holdout"], parts["test"], resize)
