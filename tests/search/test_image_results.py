from pathlib import Path

import numpy as np
import pytest
import torch

from netadapt.errors import RunError
from netadapt.search.image_results import Difference, difference, interleaved, load_image_results, save_image_results
from netadapt.search.outcome import Look
from netadapt.train.data.types import Split
from netadapt.train.task import ImageResults


def test_the_difference_is_that_of_pairs() -> None:
    # Differences 1, 3, 1, 3: mean 2, variance 4 / 3, so the standard error is sqrt(4 / 3 / 4).
    found = difference(torch.tensor([2.0, 5.0, 1.0, 4.0]), torch.tensor([1.0, 2.0, 0.0, 1.0]))
    assert found.mean == 2
    assert found.error == pytest.approx(0.57735, abs=1e-5)
    assert found.is_positive
    assert not found.exceeds(1)  # 1 is less than 2.58 * 0.577


def test_one_image_proves_nothing() -> None:
    assert not difference(torch.tensor([9.0]), torch.tensor([0.0])).is_positive
    assert not Difference(0.0, 0.0).is_positive


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images.safetensors"
    assert load_image_results(path) is None
    save_image_results(ImageResults(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 3.5])), path)
    found = load_image_results(path)
    assert found is not None
    assert found.scores.tolist() == [1.0, 0.0]
    assert found.losses.tolist() == [0.25, 3.5]


def test_parts_of_an_evaluation_are_put_together_in_the_order_of_the_images() -> None:
    split = Split(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.arange(5))
    parts = [Look(3, part=part, every=2).sample(split).labels for part in (0, 1)]
    assert [part.tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    whole = interleaved([ImageResults(torch.tensor(part / 4), torch.tensor(part / 2)) for part in parts])
    assert whole.scores.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert whole.losses.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert (whole.score, whole.loss) == (0.5, 1.0)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"{}"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"images.safetensors: damaged .*remove it and resume"):
        load_image_results(path)


def test_a_sample_is_that_of_the_split() -> None:
    split = Split(np.zeros((10, 1, 2, 2), np.uint8), np.arange(10))
    all_results = ImageResults(torch.arange(10.0), -torch.arange(10.0))
    for count in (1, 4, 10, 11):
        labels = split.sample(count).labels.tolist()
        assert all_results.sample(count).scores.tolist() == labels
        assert all_results.sample(count).losses.tolist() == [-label for label in labels]
    assert split.sample(4).labels.tolist() == split.sample(7).labels.tolist()[:4]
    assert len(set(split.sample(7).labels.tolist())) == 7
