"""What the local runtimes share."""

from __future__ import annotations

import numpy as np
import pytest

from netadapt.measure.local import activations, in_turn, version


class FakeProgram:
    def __init__(self, size, log):
        self.bytes = size
        self.log = log
        self.name = len(log.setdefault("made", []))
        log["made"].append(self.name)

    def another(self):
        return FakeProgram(self.bytes, self.log)

    def __call__(self):
        self.log.setdefault("ran", []).append(self.name)


@pytest.mark.parametrize(
    ("size", "copies"), [(1_000, 1), (131_071, 1), (131_072, 8), (3 << 20, 3), (4 << 20, 2), (9 << 20, 1)]
)
def test_copies_fill_the_working_set_and_run_in_turn(size, copies):
    log = {}
    run = in_turn(FakeProgram(size, log))
    for _ in range(2 * copies):
        run()
    assert log["made"] == list(range(copies))
    assert log["ran"] == 2 * list(range(copies))


def test_activations_have_both_signs_and_are_never_denormal():
    values = activations(np.random.default_rng(0), (3, 50))
    assert values.shape == (3, 50)
    assert values.min() < 0 < values.max()
    assert np.abs(values).min() >= 0.05
    assert np.abs(values).max() <= 1


def test_the_version_of_what_is_not_installed():
    assert version("no-such-distribution") == "absent"
