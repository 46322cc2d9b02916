from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from netadapt.errors import DataError, UnknownNameError
from netadapt.train import fetch, load_dataset
from netadapt.train.data import fashion_mnist
from netadapt.train.data.fashion_mnist import FILES, MINI_FILE, find_folder, make_mini, read_splits
from netadapt.train.data.idx import read_idx, unpack
from netadapt.train.fetch import fetch_fashion_mnist


def idx(shape: tuple[int, ...], data: bytes) -> bytes:
    header = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + data)


def write_set(folder: Path, *, labels: bytes = bytes(range(10)), images: int = 10) -> Path:
    """Four files of one tiny image a class, each pixel its number."""
    folder.mkdir(exist_ok=True)
    pixels = b"".join(bytes([number]) * 784 for number in range(images))
    for name in FILES:
        content = idx((images, 28, 28), pixels) if "images" in name else idx((len(labels),), labels)
        (folder / name).write_bytes(content)
    return folder


def test_mini_is_stratified_padded_and_complete() -> None:
    mini = load_dataset("fashion-mnist-mini", 32)
    assert mini.train.images.shape == (8500, 1, 32, 32)
    assert mini.holdout.images.shape == (1500, 1, 32, 32)
    assert mini.test.images.shape == (2000, 1, 32, 32)
    assert mini.train.labels.dtype == np.int64
    for split, each in ((mini.train, 850), (mini.holdout, 150), (mini.test, 200)):
        assert np.bincount(split.labels).tolist() == [each] * 10
    assert (len(mini.classes), mini.channels) == (10, 1)
    assert MINI_FILE.stat().st_size < 7_000_000


def test_mini_is_what_the_full_set_gives(tmp_path: Path) -> None:
    try:
        source = find_folder()
    except DataError as error:
        pytest.skip(str(error))
    again = make_mini(source, tmp_path / "mini.npz")
    with np.load(again, allow_pickle=False) as made, np.load(MINI_FILE, allow_pickle=False) as bundled:
        assert sorted(made) == sorted(bundled)
        for name in made:
            assert np.array_equal(made[name], bundled[name])


def test_full_holdout_is_500_a_class_of_the_training_files() -> None:
    try:
        splits = read_splits(find_folder())
    except DataError as error:
        pytest.skip(str(error))
    assert {part: len(labels) for part, (_, labels) in splits.items()} == {
        "train": 55_000,
        "holdout": 5_000,
        "test": 10_000,
    }
    assert np.bincount(splits["holdout"][1]).tolist() == [500] * 10


def test_the_named_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "fashion-mnist")
    monkeypatch.setenv("NETADAPT_DATA", str(tmp_path))
    assert find_folder() == folder
    monkeypatch.setenv("NETADAPT_DATA", str(folder))
    assert find_folder() == folder


def test_a_set_that_is_nowhere_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_DATA", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "user_folder", lambda: tmp_path / "user")
    with pytest.raises(DataError, match=rf"not in any of: {tmp_path}.*netadapt data fetch"):
        load_dataset("fashion-mnist", 32)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist:here", "cifar10", "folder:", ""])
def test_unknown_data_sets_list_the_known(name: str) -> None:
    with pytest.raises(UnknownNameError, match="choose one of: cifar10:PATH, fashion-mnist, fashion-mnist-mini"):
        load_dataset(name, 32)


def test_idx_is_read_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(idx((2, 3), bytes(range(6))))
    assert read_idx(tmp_path / "f.gz", dimensions=2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "starts with ''|cannot be read as gzip"),
        (b"not gzip", "cannot be read as gzip"),
        (idx((2, 3), bytes(6))[:-4], "cannot be read as gzip"),
        (idx((2, 3), bytes(5)), "5 bytes of data, its header says 6"),
        (idx((6,), bytes(6)), "starts with '00000801', expected '00000802'"),
        (gzip.compress(b"\0\0\x08\x02\0"), "not the IDX file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "f.gz").write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_idx(tmp_path / "f.gz", dimensions=2)
    assert str(tmp_path / "f.gz") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (idx((2, 3), bytes(7)), "more than 6 bytes of data, its header says 6"),
        (idx((2, 3), bytes(10**8)), "more than 6 bytes of data, its header says 6"),
        (idx((2**32 - 1, 2**32 - 1), b""), "its header says 18,446,744,065,119,617,025 bytes, at most 268,435,456"),
    ],
)
def test_a_small_file_cannot_unpack_to_a_huge_array(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "f.gz").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=complaint):
            read_idx(tmp_path / "f.gz", dimensions=2)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_no_more_is_unpacked_than_there_should_be(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(gzip.compress(bytes(1000)))
    assert unpack(tmp_path / "f.gz", most=1000) == bytes(1000)
    with pytest.raises(DataError, match="unpacks to more than 999 bytes"):
        unpack(tmp_path / "f.gz", most=999)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.gz")
    with pytest.raises(DataError, match="not an ordinary file"):
        read_idx(tmp_path / "f.gz", dimensions=1)


@pytest.mark.parametrize(
    ("labels", "images", "complaint"),
    [
        (bytes(range(9)), 10, "9 labels for the 10 images"),
        (bytes([*range(9), 10]), 10, "label 10 found, expected 0 to 9"),
        (b"", 0, "holds no images"),
    ],
)
def test_mislabelled_files_are_refused(tmp_path: Path, labels: bytes, images: int, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_splits(write_set(tmp_path / "set", labels=labels, images=images))


def test_a_damaged_bundled_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mini.npz").write_bytes(MINI_FILE.read_bytes()[:1000])
    monkeypatch.setattr(fashion_mnist, "MINI_FILE", tmp_path / "mini.npz")
    with pytest.raises(DataError, match=r"mini\.npz: damaged or missing"):
        load_dataset("fashion-mnist-mini", 32)


def test_fetching_refuses_files_that_are_not_the_published(tmp_path: Path) -> None:
    source = write_set(tmp_path / "source")
    (source / FILES[1]).write_bytes(b"junk")
    (source / FILES[2]).unlink()
    with pytest.raises(DataError) as caught:
        fetch_fashion_mnist(source, tmp_path / "destination")
    message = str(caught.value)
    assert f"{source / FILES[0]} has SHA-256" in message
    assert f"{source / FILES[1]}: cannot be read as gzip" in message
    assert f"{source / FILES[2]} is missing" in message
    assert list((tmp_path / "destination").iterdir()) == []


def test_fetching_copies_checked_files_once(tmp_path: Path) -> None:
    try:
        source = find_folder()
    except DataError as error:
        pytest.skip(str(error))
    destination = tmp_path / "new" / "fashion-mnist"
    assert fetch_fashion_mnist(source, destination) == destination
    assert sorted(path.name for path in destination.iterdir()) == sorted(FILES)
    assert fetch_fashion_mnist(tmp_path / "absent", destination) == destination  # nothing left to do


def test_fetching_leaves_other_files_of_the_same_names_alone(tmp_path: Path) -> None:
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"labels of MNIST")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is there already, .* choose another folder"):
        fetch_fashion_mnist(None, tmp_path)
    assert (tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes() == b"labels of MNIST"


def test_fetching_tries_every_source_and_says_why_each_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt.train.fetch.SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr("netadapt.train.fetch._ADDRESS", (tmp_path / "site").as_uri() + "/")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError) as caught:
        fetch_fashion_mnist(None, tmp_path / "destination")
    message = str(caught.value)
    assert f"{tmp_path / 'system' / FILES[0]} is missing" in message
    assert "apt-get download failed" in message
    assert f"{FILES[0]} could not be downloaded" in message


def test_the_public_address_is_read_over_https() -> None:
    assert fetch._ADDRESS.startswith("https://")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"junk", "as downloaded has SHA-256 [0-9a-f]{64}, expected 3aede38d"),
        (bytes(26_421_881), "larger than the 26,421,880 bytes that it should be"),
    ],
)
def test_a_download_is_checked_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    monkeypatch.setattr(fetch, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fetch, "_ADDRESS", tmp_path.as_uri() + "/")
    monkeypatch.setattr(fetch, "unpack", pytest.fail)
    monkeypatch.setenv("PATH", "")
    (tmp_path / FILES[0]).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        fetch_fashion_mnist(None, tmp_path / "destination")
    assert list((tmp_path / "destination").iterdir()) == []


def test_a_download_that_trickles_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fetch, "_ADDRESS", tmp_path.as_uri() + "/")
    monkeypatch.setattr(fetch, "_DOWNLOAD_LIMIT_S", 0)
    monkeypatch.setenv("PATH", "")
    (tmp_path / FILES[0]).write_bytes(b"junk")
    with pytest.raises(DataError, match="the download took over 0 s"):
        fetch_fashion_mnist(None, tmp_path / "destination")


def test_a_destination_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be used"):
        fetch_fashion_mnist(None, tmp_path / ("x" * 5000))


def test_fetching_reports_a_destination_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write to"):
        fetch_fashion_mnist(write_set(tmp_path / "source"), tmp_path / "file" / "below")
