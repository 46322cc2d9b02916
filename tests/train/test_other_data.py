from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netadapt.errors import DataError
from netadapt.train import load_dataset
from netadapt.train.data.cifar10 import TEST_FILE, TRAIN_FILES

RECORD = 3073


def write_cifar(folder: Path) -> Path:
    """Two images a class and file; red is 1, green 2, blue 3."""
    folder.mkdir()
    planes = bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1024
    for name in (*TRAIN_FILES, TEST_FILE):
        (folder / name).write_bytes(b"".join(bytes([label]) + planes for label in [*range(10)] * 2))
    return folder


def test_cifar_records_become_planes_and_labels(tmp_path: Path) -> None:
    data = load_dataset(f"cifar10:{write_cifar(tmp_path / 'c')}", 32)
    assert data.train.images.shape == (90, 3, 32, 32)
    assert data.train.images[0, :, 5, 7].tolist() == [1, 2, 3]
    assert np.bincount(data.holdout.labels).tolist() == [1] * 10
    assert data.test.labels.tolist() == [*range(10)] * 2
    assert data.classes[0] == "airplane"


def test_cifar_is_found_in_the_folder_the_archive_makes(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-bin")
    assert load_dataset(f"cifar10:{tmp_path}", 40).test.images.shape == (20, 3, 40, 40)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 bytes, expected a multiple of 3073"),
        (bytes(RECORD * 2 - 1), "6145 bytes, expected a multiple of 3073"),
        (b"\x0a" + bytes(RECORD - 1), "label 10 found, expected 0 to 9"),
        (None, "no such file.*unpack"),
    ],
)
def test_damaged_cifar_files_are_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    damaged = write_cifar(tmp_path / "c") / TRAIN_FILES[2]
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        load_dataset(f"cifar10:{tmp_path / 'c'}", 32)
    assert str(damaged) in str(caught.value)


def test_cifar_files_that_are_no_files_or_too_large_are_refused(tmp_path: Path) -> None:
    damaged = write_cifar(tmp_path / "c") / TRAIN_FILES[0]
    with damaged.open("wb") as file:
        file.truncate(RECORD * 10**6)
    with pytest.raises(DataError, match="over 50,000 images"):
        load_dataset(f"cifar10:{tmp_path / 'c'}", 32)
    damaged.unlink()
    os.mkfifo(damaged)
    with pytest.raises(DataError, match="there is no such file"):
        load_dataset(f"cifar10:{tmp_path / 'c'}", 32)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(f"cifar10:{'x' * 5000}", 32)


def write_images(folder: Path, count: int, *, mode: str = "RGB", suffix: str = ".png", level: int = 100) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    colour = level if mode == "L" else (level, 0, 0)
    for number in range(count):
        Image.new(mode, (40, 20), colour).save(folder / f"{number}{suffix}")


def test_class_folders_are_divided_into_three_parts(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 20)
    write_images(tmp_path / "dog", 20, suffix=".JPG")
    data = load_dataset(f"folder:{tmp_path}", 32)
    assert data.classes == ("cat", "dog")
    assert [np.bincount(part.labels).tolist() for part in (data.train, data.holdout, data.test)] == [
        [14, 15],
        [2, 1],  # 3 of the 32 that are left
        [4, 4],  # a fifth
    ]
    assert data.train.images.shape[1:] == (3, 32, 32)


def test_train_and_test_folders_are_kept(tmp_path: Path) -> None:
    for name, level in (("light", 200), ("dark", 50)):
        write_images(tmp_path / "train" / name, 10, mode="L", level=level)
        write_images(tmp_path / "test" / name, 1, mode="L", level=level)
    data = load_dataset(f"folder:{tmp_path}", 32)
    assert data.test.images[:, 0, 16, 16].tolist() == [50, 200]
    assert data.test.labels.tolist() == [0, 1]
    assert data.channels == 1
    assert data.mean == (pytest.approx(125 / 255),)
    assert data.std == (pytest.approx(75 / 255),)


def test_one_coloured_file_makes_all_coloured(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3, mode="L")
    write_images(tmp_path / "b", 3, mode="RGB")
    data = load_dataset(f"folder:{tmp_path}", 32)
    assert data.channels == 3
    assert all(std >= 1 / 255 for std in data.std)


def test_faulty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: there is no such folder"):
        load_dataset(f"folder:{tmp_path / 'absent'}", 32)
    write_images(tmp_path / "a", 3)
    with pytest.raises(DataError, match="1 class folders found, at least 2"):
        load_dataset(f"folder:{tmp_path}", 32)
    write_images(tmp_path / "b", 1)
    with pytest.raises(DataError, match=r"b: 1 image \("):
        load_dataset(f"folder:{tmp_path}", 32)
    write_images(tmp_path / "b", 2)
    with pytest.raises(DataError, match=r"b: 2 images \(.bmp, .jpeg, .jpg, .png, .webp\), at least 3 needed"):
        load_dataset(f"folder:{tmp_path}", 32)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 3)
    (tmp_path / "b" / "1.png").write_bytes((tmp_path / "b" / "1.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"b/1\.png: cannot be read as an image"):
        load_dataset(f"folder:{tmp_path}", 32)


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    for part, names in (("train", "ab"), ("test", "ac")):
        for name in names:
            write_images(tmp_path / part / name, 3)
    with pytest.raises(DataError, match=r"only in one: \['b', 'c'\]"):
        load_dataset(f"folder:{tmp_path}", 32)
