import torch

from netadapt.search.outcome import Look
from netadapt.search.racing import behind, looks, tied
from netadapt.train.task import ImageResults


def results(right: int, loss: float, images: int = 1000) -> ImageResults:
    """The first `right` images are right; losses alternate by 0.1 around a mean, so that no difference is noisy."""
    scores = (torch.arange(images) < right).float()
    return ImageResults(scores, loss + 0.1 * (-1.0) ** torch.arange(images))


def test_a_race_begins_without_training_and_ends_with_all_of_it() -> None:
    assert looks(100, 8000, racing=True, growing=True) == [Look(0, 800), Look(0), Look(25), Look(100)]
    assert looks(100, 5000, racing=True, growing=False) == [Look(0), Look(25), Look(100)]
    assert looks(100, 8000, racing=False, growing=True) == [Look(100, 800), Look(100)]
    assert looks(100, 5000, racing=False, growing=False) == [Look(100)]


def test_a_slice_is_not_smaller_than_what_says_something() -> None:
    assert looks(100, 1500, racing=True, growing=True)[0] == Look(0, 500)
    assert looks(100, 500, racing=True, growing=True) == [Look(0), Look(25), Look(100)]


def test_a_short_fine_tune_has_fewer_rounds() -> None:
    assert looks(1, 100, racing=True, growing=False) == [Look(0), Look(1)]


def test_those_with_a_higher_loss_and_no_more_right_are_behind() -> None:
    found = {
        "best": results(900, 0.3),
        "close": results(900, 0.3),
        "worse": results(890, 0.35),
        "far": results(700, 0.9),
    }
    assert behind(found) == {"worse", "far"}
    # With three places only the one with three others ahead of it is out.
    assert behind(found, places=3) == {"far"}
    assert behind(found, places=4) == set()


def test_a_higher_loss_with_more_right_is_not_behind() -> None:
    assert behind({"sure": results(900, 0.3), "right": results(905, 0.4)}) == set()


def test_noise_is_no_reason_to_stop() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(1000, generator=generator) for _ in range(2)]
    same = torch.ones(1000)
    found = {"a": ImageResults(same, 1 + noise[0]), "b": ImageResults(same, 1.05 + noise[1])}
    assert behind(found) == set()


def test_a_race_is_over_when_nobody_can_be_half_a_point_better() -> None:
    # The same images are right for both: that the lead is 0 is certain.
    assert tied({"a": results(900, 0.3), "b": results(900, 0.31)})
    # Seven of a thousand: a lead of 0.7 points, that may be more.
    assert not tied({"a": results(900, 0.3), "b": results(907, 0.31)})
    # The other way round the one of lowest loss leads.
    assert tied({"a": results(907, 0.3), "b": results(900, 0.31)})
