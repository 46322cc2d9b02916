from itertools import pairwise

import pytest
import torch

from netadapt.search.budget import Pace, Schedule
from netadapt.search.pacing import AdaptiveSteps
from netadapt.train.task import ImageResults

#: Half of 1000 in 10 equal steps: each of the paper's is a tenth of the way, 50.
SCHEDULE = Schedule(Pace(10, decay=1.0), {"latency": 1000.0}, {"latency": 500.0})


def results(right: int, images: int = 1000) -> ImageResults:
    return ImageResults((torch.arange(images) < right).float(), torch.zeros(images))


def limit(cost: float, right: list[int]) -> float:
    """The next limit of a network that costs so much, after networks with so many of 1000 hold-out images right."""
    history = pairwise([results(count) for count in right])
    return AdaptiveSteps(SCHEDULE).limits({"latency": cost}, history)["latency"]


def test_the_first_step_is_two_of_the_papers() -> None:
    assert limit(1000, [900]) == 900


def test_steps_grow_while_accuracy_does_not_suffer() -> None:
    assert limit(900, [900, 898]) == pytest.approx(900 - 110)
    assert limit(900, [900, 902, 901]) == pytest.approx(900 - 121)


def test_a_step_that_cost_a_little_is_followed_by_one_as_large() -> None:
    assert limit(900, [900, 897]) == 800
    assert limit(900, [900, 895]) == 800


def test_a_step_that_cost_much_is_followed_by_one_of_half() -> None:
    # Of 1000 images 8 more are wrong, 0.8 points with a standard error of sqrt(0.008 * 0.992 / 999) = 0.28.
    assert limit(900, [900, 892]) == 850


def test_what_few_images_tell_is_no_reason_to_go_slower() -> None:
    # 0.7 points with a standard error of 0.26: it may have been less than half a point.
    assert limit(900, [900, 893]) == 800


def test_the_last_step_leaves_no_rest() -> None:
    assert limit(649, [900]) == 500  # 149 are left, not quite one and a half steps
    assert limit(651, [900]) == 551


def test_every_metric_goes_the_same_share_of_its_way() -> None:
    schedule = Schedule(Pace(10, decay=1.0), {"macs": 100.0, "latency": 1000.0}, {"macs": 80.0, "latency": 500.0})
    assert AdaptiveSteps(schedule).limits({"macs": 100.0, "latency": 900.0}, ()) == {"macs": 96.0, "latency": 800.0}


@pytest.mark.parametrize(("reduction", "first"), [(0.1, 0.4), (0.4, 1.0)])
def test_an_initial_reduction_is_what_the_paper_would_begin_with(reduction: float, first: float) -> None:
    schedule = Schedule(Pace(10, 1.0, reduction), {"latency": 1000.0}, {"latency": 500.0})
    assert AdaptiveSteps(schedule).first == pytest.approx(first)
