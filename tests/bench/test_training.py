"""Trainings in processes of their own: the same bits, done once, and told when they fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.stages import Workshop
from bench.training import Crew, TrainingOrder, zoo_network
from bench.uniform import prune_uniformly
from netadapt.errors import RunError
from netadapt.search.trainer import load_network
from netadapt.zoo.weight_header import read_facts

pytestmark = pytest.mark.timeout(300)

NETWORK, DATA = "mobilenet_v1:0.125@32", "fashion-mnist-mini"
ORDER = TrainingOrder(NETWORK, DATA, seed=0, epochs=0.05, lr=0.1, schedule="onecycle", augment=False)


def test_trainings_side_by_side_give_the_same_bits_as_one_after_the_other(tmp_path: Path) -> None:
    orders = [ORDER, dataclasses.replace(ORDER, seed=1)]
    together = Crew(Workshop(tmp_path / "together"), 2).train(orders)
    alone = Crew(Workshop(tmp_path / "alone"), 1).train(orders)
    for one, other in zip(together, alone, strict=True):
        assert one.weights.read_bytes() == other.weights.read_bytes()
        assert (one.test_accuracy, one.holdout_accuracy) == (other.test_accuracy, other.holdout_accuracy)
    assert together[0].weights.read_bytes() != together[1].weights.read_bytes()


def test_what_was_trained_is_not_trained_again_and_goes_on_from_its_weights(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    crew = Crew(Workshop(tmp_path), 1, lambda done, total: heard.append((done, total)))
    first = crew.train([ORDER])[0]
    written = first.weights.stat().st_mtime_ns
    assert crew.train([ORDER]) == [first]
    assert first.weights.stat().st_mtime_ns == written
    assert heard == [(1, 1), (1, 1)]
    network = zoo_network(NETWORK, DATA)
    narrower = {**network.widths, "features.13.1.0": 64}
    trained = dataclasses.replace(network, module=load_network(network, network.widths, first.weights))
    pruned = tmp_path / "pruned.safetensors"
    widths = prune_uniformly(trained, 0.5, 8, pruned)
    assert widths["features.13.1.0"] == narrower["features.13.1.0"]
    tuned = crew.train([dataclasses.replace(ORDER, widths=widths, source=str(pruned), schedule="cosine")])[0]
    assert read_facts(tuned.weights)["widths"] == widths


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(RunError, match=r"missing\.safetensors: there is no such weight file"):
        Crew(Workshop(tmp_path), 2).train([dataclasses.replace(ORDER, source=str(missing))])
    with pytest.raises(RunError, match="the loss became"):
        Crew(Workshop(tmp_path), 2).train([dataclasses.replace(ORDER, lr=1e30)])
    assert Workshop(tmp_path).stage("x").found is None


def test_uniform_pruning_keeps_the_share_in_every_group(tmp_path: Path) -> None:
    network = zoo_network("mobilenet_v1:0.25@32", DATA)
    widths = prune_uniformly(network, 0.5, 8, tmp_path / "pruned.safetensors")
    assert set(widths) == set(network.widths)
    # Half of each, in eights; a group of 8 has nothing to spare.
    assert all(width == max(8, network.widths[group] // 2) for group, width in widths.items())
    load_network(network, widths, tmp_path / "pruned.safetensors")
