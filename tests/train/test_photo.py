from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netadapt.errors import DataError
from netadapt.train import load_dataset
from netadapt.train.data.photo import MOST_PIXELS, is_grey, read_photo

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 20\n%%EndComments\n%%EOF\n"


def png_of(width: int, height: int) -> bytes:
    """A PNG file that says to have that many pixels, and has hardly any."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_every_format_is_read_by_its_content(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 6, 3), (10, 120, 240), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        path = tmp_path / "0.png"
        image.save(path, format=kind)
        pixels = read_photo(path, 3)
        assert pixels.shape == (3, 4, 6)
        assert np.abs(pixels[:, 2, 3].astype(int) - (10, 120, 240)).max() <= 6
        assert not is_grey(path)


def test_deep_grey_keeps_its_upper_bits(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    Image.fromarray(np.array([[0, 255, 256], [32768, 65280, 65535]], dtype=np.uint16)).save(path)
    assert is_grey(path)
    assert read_photo(path, 1).tolist() == [[[0, 0, 1], [128, 255, 255]]]
    assert read_photo(path, 3)[2].tolist() == [[0, 0, 1], [128, 255, 255]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (EPS, "not an image of format BMP, JPEG, PNG, WEBP"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "not an image of format"),
        (b"", "not an image of format"),
        (png_of(50_000, 50_000), f"at most {MOST_PIXELS:,} are read"),
        (png_of(9_000, 9_000), f"9000 x 9000 pixels, at most {MOST_PIXELS:,} are read"),
        (png_of(10_000, 9_500), f"at most {MOST_PIXELS:,} are read"),
        (png_of(40, 20), "cannot be read as an image"),
    ],
    ids=["eps", "gif", "empty", "enormous", "large", "between", "without-pixels"],
)
def test_what_is_no_photo_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_photo(path, 3)
    assert str(path) in str(caught.value)


def test_broken_chunks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    Image.effect_noise((40, 20), 50).save(path)
    good = path.read_bytes()
    for start in range(33, len(good), 7):
        path.write_bytes(good[:start] + b"\xff\xff" + good[start + 2 :])
        try:
            read_photo(path, 1)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 - some places do no harm


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{number}.png")
    os.mkfifo(tmp_path / "b" / "3.png")
    with pytest.raises(DataError, match=r"b/3\.png: not an ordinary file"):
        load_dataset(f"folder:{tmp_path}", 32)


def test_hidden_files_are_not_photos(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{number}.png")
        (tmp_path / name / "._0.png").write_bytes(b"Mac OS X")
    assert load_dataset(f"folder:{tmp_path}", 32).classes == ("a", "b")


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(f"folder:{'x' * 5000}", 32)
