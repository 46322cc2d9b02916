"""Image files in one folder a class, with or without ``train`` and ``test`` above them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import DataError, UnknownNameError
from netadapt.train.data.arrays import split_holdout, take_out
from netadapt.train.data.photo import SUFFIXES, is_grey, read_photo
from netadapt.train.data.resizing import DEFAULT, RESIZES, WORDS, Resize, to_square
from netadapt.train.data.types import Dataset, Split
from netadapt.wording import counted

_TEST_SHARE = 0.2  # where the folder has no test part of its own
_FEWEST_TO_DIVIDE = 3  # images of a class: one each to train on, to hold out, to test
_SMALLEST_STD = 1 / 255  # a channel without any contrast must not divide by zero
_READABLE_CHANNELS = (1, 3)
_CLASSES_SHOWN = 20
_RESIZE_MARK = ",resize="
_FEW_TO_CHOOSE_BY = 100  # held-out images; with fewer, one is more than a point of accuracy


def parse(text: str) -> tuple[Path, Resize]:
    """Read ``PATH`` or ``PATH,resize=WAY``.

    Raises:
        UnknownNameError: there is no such way to resize.

    """
    path, mark, way = text.rpartition(_RESIZE_MARK)
    if not mark:
        return Path(text), DEFAULT
    for resize in RESIZES:
        if way == resize:
            return Path(path), resize
    raise UnknownNameError("way to resize photos", way, RESIZES)


def load(folder: Path, size: int, resize: Resize = DEFAULT, channels: int | None = None) -> Dataset:
    """Load ``folder/{train,test}/CLASS/*``, or ``folder/CLASS/*`` with a fifth of each class taken as test.

    Files are PNG, JPEG, BMP or WebP. A tenth of the training images is held out, drawn class by class. Photos are
    brought to ``size`` x ``size`` by ``resize`` and read as grey or RGB as ``channels`` (1 or 3) says, without it as
    grey if every file is, else as RGB. Mean and standard deviation are those of the training part. The name says the
    way of resizing, as it changes every pixel.

    Raises:
        DataError: a folder is missing, empty or unreadable, a file is not such an image or is damaged, or train and
            test have different classes.

    """
    classes, files = find_files(folder)
    if channels not in _READABLE_CHANNELS:
        channels = 1 if all(is_grey(path) for path in chain(*files)) else 3
    splits = [_read(part, classes, channels, size, resize) for part in files]
    train, test = splits if len(splits) == 2 else take_out(splits[0], _TEST_SHARE)
    train, holdout = split_holdout(train)
    mean, std = _statistics(train.images)
    remarks = (
        _remark_on_classes(classes),
        f"{len(train)} images to train on; {len(holdout)} held out of the training images to choose networks by, "
        f"a tenth but one a class at least; {len(test)} to test at the end, {_origin_of_test(folder, splits)}",
        f"each photo is read as {'grey' if channels == 1 else 'RGB'} and {WORDS[resize].format(size=size)}; choose "
        f"otherwise with --data folder:PATH{_RESIZE_MARK}{'|'.join(RESIZES)}",
        *_remark_on_few(holdout),
    )
    name = f"folder:{folder}{_RESIZE_MARK}{resize}"
    return Dataset(name, classes, channels, mean, std, train, holdout, test, resize, remarks)


def _remark_on_classes(classes: tuple[str, ...]) -> str:
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:_CLASSES_SHOWN]))
    more = ", ..." if len(classes) > _CLASSES_SHOWN else ""
    return (
        f"{len(classes)} classes in the order of their folders' names, as the network's outputs must be: {shown}{more}"
    )


def _remark_on_few(holdout: Split) -> list[str]:
    if len(holdout) >= _FEW_TO_CHOOSE_BY:
        return []
    return [
        f"only {len(holdout)} images are held out, so each is {1 / len(holdout):.1%} of the accuracy that networks are "
        "chosen by; more photos make better choices"
    ]


def _origin_of_test(folder: Path, splits: list[Split]) -> str:
    if len(splits) == 2:
        return f"in {folder / 'test'}"
    return "a fifth drawn class by class, as there is no train and test folder"


def find_files(folder: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """Return the names of the classes, and the image files of each part of a data set, without opening them.

    Raises:
        DataError: a folder is missing, empty or unreadable, or train and test have different classes.

    """
    try:
        parts = [folder / "train", folder / "test"] if (folder / "train").is_dir() else [folder]
        classes = _class_names(parts)
        # The first part is divided further; the test part is only read.
        files = [_files(part, classes, fewest) for part, fewest in zip(parts, (_FEWEST_TO_DIVIDE, 1), strict=False)]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error
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
        raise DataError(f"{folder}: there is no such folder; expected {folder}/CLASS/*.jpg or .png")
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _files(folder: Path, classes: tuple[str, ...], fewest: int) -> list[Path]:
    files = []
    for name in classes:
        images = sorted(path for path in (folder / name).iterdir() if _is_photo(path.name))
        if len(images) < fewest:
            raise DataError(
                f"{folder / name}: {counted(len(images), 'image')} ({', '.join(SUFFIXES)}), at least {fewest} needed"
            )
        files += images
    return files


def _is_photo(name: str) -> bool:
    # Hidden files are not photos: macOS puts a "._photo.jpg" of its own beside a "photo.jpg".
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _read(files: list[Path], classes: tuple[str, ...], channels: int, size: int, resize: Resize) -> Split:
    images = np.empty((len(files), channels, size, size), dtype=np.uint8)
    for row, path in zip(images, files, strict=True):
        row[...] = to_square(read_photo(path, channels), size, resize)
    labels = np.array([classes.index(path.parent.name) for path in files], dtype=np.int64)
    return Split(images, labels)


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    planes = images.swapaxes(0, 1)
    mean = tuple(float(plane.mean()) / 255 for plane in planes)
    std = tuple(max(float(plane.std()) / 255, _SMALLEST_STD) for plane in planes)
    return mean, std
