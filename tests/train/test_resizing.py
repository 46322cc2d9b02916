"""How photos of any shape become squares, and that the data set's name and remarks say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from netadapt.errors import UnknownNameError
from netadapt.train import load_dataset
from netadapt.train.data.arrays import fit_to_size
from netadapt.train.data.resizing import RESIZES, Resize, to_square

EXIF_ORIENTATION = 0x0112
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def stripes() -> Image.Image:
    """16 x 8: red, green, green, blue, each 4 wide."""
    photo = Image.new("RGB", (16, 8), GREEN)
    photo.paste(RED, (0, 0, 4, 8))
    photo.paste(BLUE, (12, 0, 16, 8))
    return photo


def squared(photo: Image.Image, size: int, resize: Resize) -> np.ndarray:
    """The photo [H, W, C] as [size, size, C]."""
    pixels = np.asarray(photo).reshape(photo.height, photo.width, -1).transpose(2, 0, 1)
    return to_square(pixels, size, resize).transpose(1, 2, 0)


def test_crop_keeps_the_central_square_alone() -> None:
    assert (squared(stripes(), 8, "crop") == GREEN).all()


def test_pad_keeps_the_shape_between_black_bars() -> None:
    padded = squared(stripes(), 16, "pad")
    assert not padded[:4].any()
    assert not padded[12:].any()
    assert np.array_equal(padded[4:12], np.asarray(stripes()))


def test_squash_keeps_everything_at_another_shape() -> None:
    squashed = squared(stripes(), 8, "squash")
    assert tuple(squashed[4, 0]) == RED
    assert tuple(squashed[4, 4]) == GREEN
    assert tuple(squashed[4, 7]) == BLUE


@given(
    width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(1, 40), resize=st.sampled_from(RESIZES),
    level=st.integers(0, 255),
)  # fmt: skip
def test_any_photo_becomes_a_square_of_its_own_colours(
    width: int, height: int, size: int, resize: Resize, level: int
) -> None:
    square = squared(Image.new("L", (width, height), level), size, resize)
    assert square.shape == (size, size, 1)
    assert set(square.flatten()) <= {level, 0}
    assert resize == "pad" or (square == level).all()


def write_classes(folder: Path, photo: Image.Image, **options: object) -> None:
    for name in ("b", "a", "B", "10", "2"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            photo.save(folder / name / f"{number}.png", **options)


@pytest.mark.parametrize(("asked", "done"), [("", "crop"), *[(f",resize={way}", way) for way in RESIZES]])
def test_the_name_says_how_photos_were_resized(tmp_path: Path, asked: str, done: Resize) -> None:
    write_classes(tmp_path, stripes())
    data = load_dataset(f"folder:{tmp_path}{asked}", 8)
    assert data.name == f"folder:{tmp_path},resize={done}"
    assert data.resize == done
    expected = squared(stripes(), 8, done).transpose(2, 0, 1)
    assert np.array_equal(data.test.images[0], expected)
    # What is written in a summary can be given again.
    assert load_dataset(data.name, 8).name == data.name


def test_remarks_say_order_of_classes_parts_and_resizing(tmp_path: Path) -> None:
    write_classes(tmp_path, stripes())
    classes, parts, resizing, few = load_dataset(f"folder:{tmp_path}", 8).remarks
    assert classes.endswith("0 10, 1 2, 2 B, 3 a, 4 b")
    assert parts.startswith("5 images to train on; 5 held out of the training images")
    assert "5 to test" in parts
    assert "central square" in resizing
    assert "8 x 8" in resizing
    assert "resize=crop|pad|squash" in resizing
    assert few.startswith("only 5 images are held out, so each is 20.0% of the accuracy")


def test_photos_are_read_with_the_channels_that_are_asked_for(tmp_path: Path) -> None:
    write_classes(tmp_path / "colour", stripes())
    write_classes(tmp_path / "grey", Image.new("L", (8, 8), 70))
    asked = {(photos, channels) for photos in ("colour", "grey") for channels in (None, 1, 3)}
    given = {
        (name, channels): load_dataset(f"folder:{tmp_path / name}", 8, channels).channels for name, channels in asked
    }
    assert given == {key: key[1] or {"colour": 3, "grey": 1}[key[0]] for key in asked}
    assert set(load_dataset(f"folder:{tmp_path / 'grey'}", 8, 3).test.images.flatten()) == {70}


def test_an_unknown_way_to_resize_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match="unknown way to resize photos 'stretch'; choose one of: crop, pad, squash"
    ):
        load_dataset(f"folder:{tmp_path},resize=stretch", 8)


def test_a_phones_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # held upright: to be turned clockwise
    write_classes(tmp_path, stripes(), exif=exif)
    image = load_dataset(f"folder:{tmp_path},resize=squash", 8).test.images[0]
    assert tuple(image[:, 0, 4]) == RED
    assert tuple(image[:, 7, 4]) == BLUE


def test_named_data_sets_say_how_they_were_resized() -> None:
    assert load_dataset("fashion-mnist-mini", 32).resize == "border"
    assert load_dataset("fashion-mnist-mini", 28).resize == "squash"


@settings(deadline=None)  # the first example imports torch
@given(level=st.integers(0, 255), size=st.sampled_from([16, 24, 32, 48]), seed=st.integers(0, 99))
def test_docs_lines_for_named_data_sets_give_their_pixels(level: int, size: int, seed: int) -> None:
    """Named data sets are resized by torch; what docs/deploy.md says about them in Pillow's words is the same."""
    pixels = np.random.default_rng(seed).integers(0, level + 1, (1, 1, 28, 28)).astype(np.uint8)
    image = Image.fromarray(pixels[0, 0])
    told = ImageOps.expand(image, 2) if size == 32 else image.resize((size, size), Image.Resampling.BILINEAR)
    difference = fit_to_size(pixels, size)[0, 0].astype(int) - np.asarray(told)
    assert np.abs(difference).max() <= (0 if size == 32 else 1)  # a level, as both round
