"""Damaged files that netadapt keeps for itself: results of single images, and tuning records."""

from __future__ import annotations

import json
import random
from pathlib import Path

import safetensors.numpy
import torch
from fuzzing import Fuzz, must_refuse
from mutations import mutated_bytes, mutated_value

from netadapt.measure.tvm.records import Records, TunedKernel
from netadapt.search.image_results import load_image_results, save_image_results
from netadapt.train.task import ImageResults


def test_results_of_images(fuzz: Fuzz, tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_image_results(ImageResults(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.5, 3.0, 0.1])), good)

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "images.safetensors"
        path.write_bytes(mutated_bytes(good.read_bytes(), generator))
        found = load_image_results(path)
        assert found is not None
        assert len(found.scores) == len(found.losses)
        assert found.losses.isfinite().all()

    fuzz(read, quick=100, full=8000)


def test_results_of_images_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "images.safetensors"
    one, two = torch.ones(1).numpy(), torch.ones(2).numpy()
    for scores, losses in ((one, two), (two.astype("int64"), two), (two.reshape(1, 2), two), (two * float("inf"), two)):
        path.write_bytes(safetensors.numpy.save({"scores": scores, "losses": losses}))
        assert "damaged" in must_refuse(lambda: load_image_results(path))


def _records() -> dict[str, object]:
    kernel = TunedKernel(name="f", workload={}, trials=2, wrong=0, ours_ns=2.0, best_ns=1.0, ratio=None, trace=[])
    return {
        "schema_version": 1,
        "platform": "p",
        "tier": "local",
        "tvm": "1",
        "target": {"kind": "llvm"},
        "kernels": [kernel.model_dump(mode="json")],
    }


def test_tuning_records(fuzz: Fuzz) -> None:
    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "records.json"
        content = json.dumps(mutated_value(_records(), generator)).encode()
        path.write_bytes(mutated_bytes(content, generator) if generator.random() < 0.5 else content)
        Records.read(path)

    fuzz(read, quick=100, full=8000)


def test_tuning_records_of_too_many_levels_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    path.write_text("[" * 100_000)
    assert "damaged" in must_refuse(lambda: Records.read(path))
    with path.open("wb") as file:
        file.truncate(1 << 33)
    assert "too large" in must_refuse(lambda: Records.read(path))
    assert "not even a plain file" in must_refuse(lambda: Records.read(tmp_path))
