"""Damaged weight files: loaded into a network, averaged, and asked for their metadata."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import safetensors.torch
import torch
from fuzzing import Fuzz
from mutations import mutated_bytes, mutated_value
from torch import nn

from netadapt.zoo.weight_files import average_weights, load_weights
from netadapt.zoo.weight_header import read_facts


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def _content(dtype: torch.dtype = torch.float32) -> bytes:
    state = {name: tensor.to(dtype) for name, tensor in _network().state_dict().items()}
    return safetensors.torch.save(state, {"netadapt": '{"widths": {"0": 2}}'})


def _with_header(content: bytes, generator: random.Random) -> bytes:
    """Another header before the same numbers: other types, shapes, names, places."""
    (length,) = struct.unpack("<Q", content[:8])
    header = mutated_value(json.loads(content[8 : 8 + length]), generator)
    entries = [entry for entry in header.values() if isinstance(entry, dict)] if isinstance(header, dict) else []
    if entries and generator.random() < 0.5:
        types = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "F6_E2M3", "F4", "I64", "U8", "BOOL", "C64", "X")
        generator.choice(entries)["dtype"] = generator.choice(types)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _use(path: Path, folder: Path) -> None:
    read_facts(path).get("widths")
    average_weights([path, path], folder / "mean.safetensors")
    module = _network()
    load_weights(module, path)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_weight_files(fuzz: Fuzz) -> None:
    contents = [_content(), _content(torch.bfloat16), _content(torch.float64)]

    def read(generator: random.Random, folder: Path) -> None:
        good = generator.choice(contents)
        path = folder / "weights.safetensors"
        path.write_bytes(generator.choice((mutated_bytes, _with_header))(good, generator))
        _use(path, folder)

    fuzz(read, quick=100, full=8000)


def test_averages_of_different_files(fuzz: Fuzz) -> None:
    good = _content()

    def read(generator: random.Random, folder: Path) -> None:
        paths = [folder / f"{number}.safetensors" for number in range(3)]
        damaged = generator.choice(paths)
        for path in paths:
            path.write_bytes(_with_header(good, generator) if path == damaged else good)
        average_weights(paths, folder / "mean.safetensors")

    fuzz(read, quick=50, full=4000)
