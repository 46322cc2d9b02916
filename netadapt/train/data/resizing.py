"""From a photo of any shape to the square that a network takes; docs/deploy.md has the same lines for users."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Resize = Literal["crop", "pad", "squash"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
DEFAULT: Resize = "crop"

#: Each way in words, after "each photo is".
WORDS = {
    "crop": "cut to its central square and scaled to {size} x {size} (margins are lost)",
    "pad": "scaled into {size} x {size} as a whole, between black bars",
    "squash": "scaled to {size} x {size} as a whole, which distorts what is not square",
}


def to_square(photo: NDArray[np.uint8], size: int, resize: Resize) -> NDArray[np.uint8]:
    """Return a photo [C, H, W], grey or RGB, as [C, size, size]; bilinear, anti-aliased where it shrinks."""
    channels = len(photo)
    image = Image.fromarray(photo[0] if channels == 1 else np.ascontiguousarray(photo.transpose(1, 2, 0)))
    return np.asarray(_resized(image, size, resize)).reshape(size, size, channels).transpose(2, 0, 1)


def _resized(image: Image.Image, size: int, resize: Resize) -> Image.Image:
    box = (size, size)
    match resize:
        case "crop":
            return ImageOps.fit(image, box, Image.Resampling.BILINEAR)
        case "pad":
            return ImageOps.pad(image, box, Image.Resampling.BILINEAR, color="black")
        case "squash":
            return image.resize(box, Image.Resampling.BILINEAR)
