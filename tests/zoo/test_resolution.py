from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from netadapt import zoo
from netadapt.errors import ModelError, UnknownNameError
from netadapt.zoo.weight_files import save_weights
from netadapt.zoo.weight_header import read_facts

USER_CODE = """
import torch
from torch import nn

def plain():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5))

def with_input():
    return plain(), torch.zeros(1, 1, 9, 11)

def with_batch():
    return plain(), torch.zeros(2, 1, 9, 9)

def number():
    return 7

def broken():
    raise RuntimeError("no luck")
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's own in the current directory."""
    name = f"own_network_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # undone after the test, unlike what resolve adds
    return name


def test_a_zoo_network_comes_in_eval_mode_with_its_input() -> None:
    network = zoo.resolve("mobilenet_v1:0.25@32", classes=10, in_channels=1)
    assert network.name == "mobilenet_v1:0.25@32"
    assert not network.pretrained
    assert not network.module.training
    assert network.example_input.shape == (1, 1, 32, 32)
    assert network.module(network.example_input).shape == (1, 10)


def test_classes_and_channels_default_to_imagenet() -> None:
    network = zoo.resolve("squeezenet:0.25@32", classes=None, in_channels=None)
    assert network.module(torch.rand(1, 3, 32, 32)).shape == (1, 1000)


def test_a_size_that_contradicts_the_name_is_refused() -> None:
    with pytest.raises(ModelError, match="name it resnet18@32"):
        zoo.resolve("resnet18", classes=10, in_channels=1, size=32)


@pytest.mark.parametrize("name", ["nowhere", "nowhere:0.5@32", "nowhere:factory"])
def test_unknown_names_list_the_networks(name: str) -> None:
    with pytest.raises(UnknownNameError, match="choose one of: alexnet"):
        zoo.resolve(name, classes=10, in_channels=1)


def test_a_users_module_gets_an_input_of_the_size_asked_for(user_module: str) -> None:
    network = zoo.resolve(f"{user_module}:plain", classes=None, in_channels=1, size=16)
    assert network.example_input.shape == (1, 1, 16, 16)
    assert not network.module.training
    assert network.pretrained


def test_a_users_own_input_is_kept(user_module: str) -> None:
    assert zoo.resolve(f"{user_module}:with_input", classes=None, in_channels=3).example_input.shape == (1, 1, 9, 11)


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        ("with_batch", r"must be \[1, C, H, W\], not \[2, 1, 9, 9\]"),
        ("number", "returned int"),
        ("broken", "RuntimeError: no luck"),
        ("absent", "AttributeError.*absent"),
        ("plain", r"cannot be run on an input of shape \[1, 3, 224, 224\]"),
    ],
)
def test_faults_of_a_users_factory_are_reported(user_module: str, factory: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        zoo.resolve(f"{user_module}:{factory}", classes=None, in_channels=None)


def test_a_module_without_a_factory_is_reported() -> None:
    with pytest.raises(ModelError, match=r"write package\.module:factory"):
        zoo.resolve("os.path", classes=None, in_channels=None)


def test_a_module_that_cannot_be_imported_is_reported() -> None:
    with pytest.raises(ModelError, match="there is no package or module 'no_such_package'"):
        zoo.resolve("no_such_package.models:factory", classes=None, in_channels=None)


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    trained = zoo.build("mobilenet_v1:0.25@32", classes=3, in_channels=1, seed=5)
    path = tmp_path / "new folder" / "w.safetensors"
    save_weights(trained, path, {"seed": 5, "data": "none"})
    network = zoo.resolve("mobilenet_v1:0.25@32", classes=3, in_channels=1, weights=path)
    assert network.pretrained
    assert read_facts(path) == {"seed": 5, "data": "none"}
    for name, tensor in trained.state_dict().items():
        assert torch.equal(network.module.state_dict()[name], tensor)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    module = zoo.build("mobilenet_v1:0.25@32", classes=3, in_channels=1)
    save_weights(module, tmp_path / "a", {"b": 1, "a": 2})
    save_weights(module.to(memory_format=torch.channels_last), tmp_path / "b", {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_that_do_not_fit_name_the_tensors_and_change_nothing(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    before = module[1].bias.clone()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"0.weight": torch.zeros(3, 5), "1.bias": torch.ones(1), "9.bias": torch.ones(1)}, path)
    with pytest.raises(ModelError) as caught:
        zoo.load_weights(module, path)
    message = str(caught.value)
    assert "2 missing: 0.bias, 1.weight" in message
    assert "1 unexpected: 9.bias" in message
    assert "1 of another shape: 0.weight [3, 5] (the network has [3, 2])" in message
    assert torch.equal(module[1].bias, before)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.safetensors: there is no such weight file"):
        zoo.load_weights(torch.nn.Linear(1, 1), tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kind", ["pickle", "truncated", "empty"])
def test_files_that_are_not_safetensors_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pt"
    module = torch.nn.Linear(1, 1)
    if kind == "pickle":
        torch.save(module.state_dict(), path)
    else:
        content = safetensors.torch.save(module.state_dict())
        path.write_bytes(content[:-1] if kind == "truncated" else b"")
    with pytest.raises(ModelError, match=r"not a safetensors file.*never read, convert"):
        zoo.load_weights(module, path)


def test_weights_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        save_weights(torch.nn.Linear(1, 1), tmp_path / "file" / "w.safetensors", {})
