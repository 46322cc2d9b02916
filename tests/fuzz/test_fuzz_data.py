"""Damaged data sets: photos, idx files, CIFAR's files."""

from __future__ import annotations

import gzip
import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzzing import Fuzz
from mutations import mutated_bytes
from PIL import Image

from netadapt.train.data import cifar10
from netadapt.train.data.idx import read_idx
from netadapt.train.data.photo import is_grey, read_photo


def _photo(kind: str, mode: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    stream = io.BytesIO()
    options = {"progressive": True} if kind == "JPEG" else {}
    Image.fromarray(noise).convert(mode).save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("BMP", "RGB"), ("WEBP", "RGB")],
)
def test_photos(fuzz: Fuzz, kind: str, mode: str) -> None:
    good = _photo(kind, mode)

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "0.png"
        path.write_bytes(mutated_bytes(good, generator))
        is_grey(path)
        read_photo(path, generator.choice((1, 3)))

    fuzz(read, quick=40, full=4000)


def test_idx_files(fuzz: Fuzz) -> None:
    plain = bytes((0, 0, 8, 3)) + struct.pack(">3I", 5, 28, 28) + bytes(5 * 28 * 28)

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "images.gz"
        content = mutated_bytes(plain, generator) if generator.random() < 0.5 else plain
        packed = gzip.compress(content, compresslevel=1)
        path.write_bytes(mutated_bytes(packed, generator) if content is plain else packed)
        read_idx(path, dimensions=3)

    fuzz(read, quick=100, full=10_000)


def test_cifar_files(fuzz: Fuzz) -> None:
    good = b"".join(bytes([label]) + bytes(3072) for label in range(10))

    def read(generator: random.Random, folder: Path) -> None:
        damaged = generator.choice((*cifar10.TRAIN_FILES, cifar10.TEST_FILE))
        for name in (*cifar10.TRAIN_FILES, cifar10.TEST_FILE):
            (folder / name).write_bytes(mutated_bytes(good, generator) if name == damaged else good)
        cifar10.load(folder, 32)

    fuzz(read, quick=30, full=1000)
