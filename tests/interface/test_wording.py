from __future__ import annotations

import pytest

from netadapt.report.statuses import explained
from netadapt.search.budget import Pace, Schedule
from netadapt.wording import counted


def test_one_is_no_plural() -> None:
    assert [counted(number, "image") for number in (0, 1, 2, 12_000)] == [
        "0 images",
        "1 image",
        "2 images",
        "12,000 images",
    ]


def test_messages_of_a_schedule_count_right() -> None:
    with pytest.raises(Exception, match=r"cannot reach the budget: 1 iteration from 10.0% on, .* reduce macs by 10.0%"):
        Schedule(Pace(1, initial_reduction=0.1), {"macs": 100.0}, {"macs": 50.0})

    assert explained("contended") == "contended (the machine was busy)"
    assert explained("of a later version") == "of a later version"
