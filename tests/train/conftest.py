from __future__ import annotations

import numpy as np
import pytest

from netadapt.train import Dataset, Split


def bright_or_dark(count: int, seed: int) -> Split:
    """Alternately dark (0 to 99, class 0) and bright (156 to 255, class 1) noise: learnt in a few steps."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = random.integers(0, 100, (count, 1, 32, 32)) + 156 * labels[:, None, None, None]
    return Split(images.astype(np.uint8), labels.astype(np.int64))


@pytest.fixture
def dataset() -> Dataset:
    parts = [bright_or_dark(count, seed) for seed, count in enumerate((48, 10, 12))]
    return Dataset("bright-or-dark", ("dark", "bright"), 1, (0.5,), (0.25,), *parts)
