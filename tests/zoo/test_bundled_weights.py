from __future__ import annotations

import hashlib

import pytest

from netadapt import zoo
from netadapt.train import Classification, evaluate, load_dataset
from netadapt.zoo.weight_files import BUNDLED, BundledWeights
from netadapt.zoo.weight_header import read_facts

NAME = "mobilenet_v1:0.5@32"
MINI_TEST_ACCURACY = 0.9375


@pytest.mark.parametrize("data", ["fashion-mnist", "fashion-mnist-mini"])
def test_bundled_weights_have_the_stated_accuracy(data: str) -> None:
    mini = load_dataset("fashion-mnist-mini", 32)
    network = zoo.resolve(NAME, classes=10, in_channels=1, pretrained_on=data)
    assert network.pretrained
    result = evaluate(network.module, Classification(), mini.test, mini)
    assert result.score == pytest.approx(MINI_TEST_ACCURACY, abs=0.001)


@pytest.mark.parametrize(
    ("name", "classes", "channels", "data"),
    [
        (NAME, 10, 1, "cifar10"),
        (NAME, 9, 1, "fashion-mnist"),
        (NAME, 10, 3, "fashion-mnist"),
        ("mobilenet_v1:0.25@32", 10, 1, "fashion-mnist"),
    ],
)
def test_nothing_is_bundled_for_other_networks_or_data(name: str, classes: int, channels: int, data: str) -> None:
    assert not zoo.resolve(name, classes=classes, in_channels=channels, pretrained_on=data).pretrained


@pytest.mark.parametrize("bundled", BUNDLED, ids=lambda bundled: str(bundled.network))
def test_the_card_tells_of_this_very_file(bundled: BundledWeights) -> None:
    card = bundled.path.with_suffix(".md").read_text()
    facts = read_facts(bundled.path)
    assert hashlib.sha256(bundled.path.read_bytes()).hexdigest() in card
    assert f"netadapt train {facts['network']} --data {facts['data']} --epochs {facts['epochs']}" in card
    assert f"{100 * facts['test_accuracy']:.2f} %" in card  # type: ignore[operator]
    assert facts["test_accuracy"] >= 0.93  # type: ignore[operator]
