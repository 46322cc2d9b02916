"""Normalisation that a user gives, and the word about a network that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import OptionError
from netadapt.train import Dataset, Evaluation, Split
from netadapt.train.chance import near_chance
from netadapt.train.data.normalisation import normalised, parse_normalisation


def dataset(channels: int = 3, labels: tuple[int, ...] = (0, 1)) -> Dataset:
    split = Split(np.zeros((len(labels), channels, 4, 4), np.uint8), np.array(labels))
    return Dataset("d", ("cat", "dog"), channels, (0.1,) * channels, (0.2,) * channels, split, split, split)


def test_given_values_replace_the_data_sets_own() -> None:
    parsed = parse_normalisation("0.485,0.456,0.406", "0.229, 0.224, 0.225")
    assert parsed == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    changed = normalised(dataset(), *parsed)
    assert (changed.mean, changed.std) == parsed
    assert changed.given_normalisation
    assert changed.remarks[-1].startswith("normalised with mean 0.485, 0.456, 0.406 and std 0.229")
    assert not dataset().given_normalisation


def test_a_data_sets_own_values_change_nothing() -> None:
    own = dataset()
    assert normalised(own, (0.1,), (0.2,)) is own


def test_one_value_is_for_all_channels() -> None:
    changed = normalised(dataset(), (0.5,), (0.25,))
    assert (changed.mean, changed.std) == ((0.5,) * 3, (0.25,) * 3)


def test_nothing_given_is_nothing_changed() -> None:
    assert parse_normalisation(None, None) is None


@pytest.mark.parametrize(
    ("mean", "std", "complaint"),
    [
        ("0.5", None, "belong together"),
        (None, "0.5", "belong together"),
        ("0.5", "half", "--std 'half' is not a list of numbers"),
        ("", "0.5", "--mean '' is not a list of numbers"),
        ("0.5,0.5", "0.5", r"mean: 2 values for 3 channels"),
        (
            "123.7,116.3,103.5",
            "0.2",
            "mean: 123.7, 116.3, 103.5 is not between 0 and 1.*divide values for 0..255 by 255",
        ),
        ("0.5", "58.4", "std: 58.4 is not between 0 and 1"),
        ("nan", "0.5", "mean: nan is not between"),
        ("0.5", "0.2,0,0.2", "std: 0.2, 0, 0.2 must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(mean: str | None, std: str | None, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        normalised(dataset(), *(parse_normalisation(mean, std) or ()))


def test_a_network_near_chance_is_told_with_what_is_likely_wrong() -> None:
    data = dataset(labels=(0,) * 60 + (1,) * 40)
    # Chance is 60 %: what naming the first class always gives. A tenth of the way up from there is 64 %.
    assert near_chance(Evaluation(0.65, 1.0, 100), data.holdout, data) is None
    told = near_chance(Evaluation(0.63, 1.0, 100), data.holdout, data)
    assert told is not None
    assert "63.0% on 100 images of d, near chance (60.0%)" in told
    assert "mean 0.1, 0.1, 0.1 and std 0.2, 0.2, 0.2 (--mean and --std give others)" in told
    assert "cat, dog" in told
