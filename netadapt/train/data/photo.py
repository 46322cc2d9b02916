"""Read one photo out of a folder that anybody may have filled: few formats, by content, and of bounded size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from netadapt.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""Of the files that are taken for photos; what is in them decides how they are read."""

MOST_PIXELS = 1 << 26
"""More than 60 million take over a gigabyte while they are made smaller; no network sees that many."""

# Pillow also opens formats that start other programs (PostScript) or decode with little care.
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
_DEEP_GREY = "I;16"
_GREY_MODES = ("1", "L", _DEEP_GREY)


def is_grey(path: Path) -> bool:
    """Whether a photo has one channel; its pixels are not read.

    Raises:
        DataError: it is not a readable file of a known format, or has too many pixels.

    """
    with _opened(path) as image:
        return image.mode in _GREY_MODES


def read_photo(path: Path, channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a photo, [C, H, W], upright, as grey (``channels`` 1) or RGB (3); of 16 bits the upper 8.

    Raises:
        DataError: it is not a readable file of a known format, is damaged, or has too many pixels.

    """
    with _opened(path) as image:
        if image.mode == _DEEP_GREY:
            # Pillow would cut off all that is above 255.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        # Phones store how they were held instead of turning the pixels.
        upright = ImageOps.exif_transpose(image)
        pixels = np.array(upright.convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if not path.is_file():
        # A pipe would be waited for, and a device can be endless.
        raise DataError(f"{path}: not an ordinary file; replace or remove it")
    try:
        with _bombs_refused(), Image.open(path, formats=_FORMATS) as image:
            _require_reasonable(path, image)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: not an image of format {', '.join(_FORMATS)}; convert, replace or remove it"
        ) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(path, "too many") from error
    except Exception as error:
        # Damage makes Pillow's decoders raise nearly every type there is.
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error


def _require_reasonable(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width} x {height}")


def _too_large(path: Path, pixels: str) -> DataError:
    return DataError(f"{path}: {pixels} pixels, at most {MOST_PIXELS:,} are read; make it smaller or remove it")


@contextmanager
def _bombs_refused() -> Iterator[None]:
    """Have Pillow raise what it would only warn of; its own limit is a little higher than ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
