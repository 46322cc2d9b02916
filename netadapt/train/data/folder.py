"""Image files in one folder a class, with or without ``train`` and ``test`` above them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from netadapt.errors import DataError
from netadapt.train.data.arrays import fit_to_size, split_holdout, take_out
from netadapt.train.data.types import Dataset, Split

SUFFIXES = (".jpeg", ".jpg", ".png")
_TEST_SHARE = 0.2  # where the folder has no test part of its own
_FEWEST_TO_DIVIDE = 3  # images of a class: one each to train on, to hold out, to test
_GREY_MODES = ("1", "L")
_SMALLEST_STD = 1 / 255  # a channel without any contrast must not divide by zero


def load(folder: Path, size: int) -> Dataset:
    """Load ``folder/{train,test}/CLASS/*.png|jpg``, or ``folder/CLASS/*`` with a fifth of each class taken as test.

    A tenth of the training images is held out. Images are squeezed to ``size`` x ``size``; they are grey (1 channel)
    if every file is, else RGB. Mean and standard deviation are those of the training part.

    Raises:
        DataError: a folder is missing or empty, a file is not an image, or train and test have different classes.

    """
    classes, files = find_files(folder)
    channels = 1 if all(_mode(path) in _GREY_MODES for path in chain(*files)) else 3
    splits = [_read(part, classes, channels, size) for part in files]
    train, test = splits if len(splits) == 2 else take_out(splits[0], _TEST_SHARE)
    train, holdout = split_holdout(train)
    mean, std = _statistics(train.images)
    return Dataset(f"folder:{folder}", classes, channels, mean, std, train, holdout, test)


def find_files(folder: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """Return the names of the classes, and the image files of each part of a data set, without opening them.

    Raises:
        DataError: a folder is missing or empty, or train and test have different classes.

    """
    parts = [folder / "train", folder / "test"] if (folder / "train").is_dir() else [folder]
    classes = _class_names(parts)
    # The first part is divided further; the test part is only read.
    files = [_files(part, classes, fewest) for part, fewest in zip(parts, (_FEWEST_TO_DIVIDE, 1), strict=False)]
    return classes, files


def _class_names(parts: list[Path]) -> tuple[str, ...]:
    first, *others = [_folders(part) for part in parts]
    if len(first) < 2:
        raise DataError(f"{parts[0]}: {len(first)} class folders found, at least 2 needed; put each class in a folder")
    for part, names in zip(parts[1:], others, strict=True):
        if different := first ^ names:
            raise DataError(f"{part}: must have the class folders of {parts[0]}; only in one: {sorted(different)}")
    return tuple(sorted(first))


def _folders(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; expected {folder}/CLASS/*.png or .jpg")
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _files(folder: Path, classes: tuple[str, ...], fewest: int) -> list[Path]:
    files = []
    for name in classes:
        images = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if len(images) < fewest:
            raise DataError(f"{folder / name}: {len(images)} images ({', '.join(SUFFIXES)}), at least {fewest} needed")
        files += images
    return files


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, UnidentifiedImageError) as error:
        raise _not_an_image(path, error) from error


def _read(files: list[Path], classes: tuple[str, ...], channels: int, size: int) -> Split:
    images = np.empty((len(files), channels, size, size), dtype=np.uint8)
    for row, path in zip(images, files, strict=True):
        row[...] = fit_to_size(_pixels(path, channels)[None], size)[0]
    labels = np.array([classes.index(path.parent.name) for path in files], dtype=np.int64)
    return Split(images, labels)


def _pixels(path: Path, channels: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise _not_an_image(path, error) from error
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def _not_an_image(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image ({error}); replace or remove it")


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    planes = images.swapaxes(0, 1)
    mean = tuple(float(plane.mean()) / 255 for plane in planes)
    std = tuple(max(float(plane.std()) / 255, _SMALLEST_STD) for plane in planes)
    return mean, std
