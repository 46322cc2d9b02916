"""Data sets by name, as arrays in memory."""

from __future__ import annotations

from pathlib import Path

from netadapt.errors import UnknownNameError
from netadapt.train.data import cifar10, fashion_mnist, folder
from netadapt.train.data.types import Dataset, Split
from netadapt.train.names import DATASETS

__all__ = ["Dataset", "Split", "check_dataset", "load_dataset"]


def load_dataset(name: str, size: int, channels: int | None = None) -> Dataset:
    """Load the data set ``name`` with images of ``size`` x ``size`` pixels.

    With ``channels`` photos of a folder are read as grey (1) or RGB (3), whatever they are; other data sets have
    channels of their own.

    Names are ``fashion-mnist-mini`` (bundled), ``fashion-mnist``, ``cifar10:PATH`` and ``folder:PATH``; after the last
    one ``,resize=crop`` (the same as nothing), ``,resize=pad`` or ``,resize=squash``.

    Raises:
        UnknownNameError: there is no data set of this name, or no such way to resize.
        DataError: its files are missing, empty, truncated or mislabelled.

    """
    kind, _, path = name.partition(":")
    match kind:
        case "fashion-mnist-mini" if not path:
            return fashion_mnist.load_mini(size)
        case "fashion-mnist" if not path:
            return fashion_mnist.load_full(size)
        case "cifar10" if path:
            return cifar10.load(Path(path), size)
        case "folder" if path:
            photos, resize = folder.parse(path)
            return folder.load(photos, size, resize, channels)
    raise UnknownNameError("data set", name, DATASETS)


def check_dataset(name: str) -> None:
    """Check that there is a data set of this name, and that its files are there, without reading them.

    Raises:
        UnknownNameError: there is no data set of this name, or no such way to resize.
        DataError: its files are missing.

    """
    kind, _, path = name.partition(":")
    match kind:
        case "fashion-mnist-mini" if not path:
            return
        case "fashion-mnist" if not path:
            fashion_mnist.find_folder()
        case "cifar10" if path:
            cifar10.find_files(Path(path))
        case "folder" if path:
            photos, _ = folder.parse(path)
            folder.find_files(photos)
        case _:
            raise UnknownNameError("data set", name, DATASETS)
