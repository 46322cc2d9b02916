from __future__ import annotations

from bench.replay import ReplayTimer


def test_pairs_of_readings_are_one_latency_apart():
    timer = ReplayTimer()
    timer.load([0.1, 0.3])

    first = -timer() + timer()
    second = -timer() + timer()

    # To the last digit, as 0.4 - 0.1 would not be.
    assert (first, second) == (0.1, 0.3)
