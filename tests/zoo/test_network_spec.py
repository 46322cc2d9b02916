from __future__ import annotations

import subprocess
import sys

import pytest

from netadapt.errors import ModelError, UnknownNameError
from netadapt.zoo.spec import NetworkSpec


@pytest.mark.parametrize(
    ("text", "width", "size"),
    [
        ("mobilenet_v1", 1.0, 224),
        ("mobilenet_v1:0.5", 0.5, 224),
        ("mobilenet_v1@32", 1.0, 32),
        ("mobilenet_v1:0.5@32", 0.5, 32),
    ],
)
def test_canonical_names_are_read_and_written(text: str, width: float, size: int) -> None:
    spec = NetworkSpec.parse(text)
    assert spec == NetworkSpec("mobilenet_v1", width, size)
    assert str(spec) == text


def test_defaults_written_out_are_the_same_network() -> None:
    assert str(NetworkSpec.parse("resnet18:1@224")) == "resnet18"


def test_unknown_network_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown network 'vgg'.*alexnet, mobilenet_v1.*squeezenet"):
        NetworkSpec.parse("vgg:0.5@32")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("alexnet:0", "above 0, not 0"),
        ("alexnet:-1", "above 0, not -1"),
        ("alexnet:nan", "above 0, not nan"),
        ("alexnet@31", "32 to 320, not 31"),
        ("alexnet@321", "32 to 320, not 321"),
        ("alexnet:wide", "WIDTH must be a number"),
        ("alexnet@32.5", "SIZE a whole number"),
        ("alexnet@32:0.5", "write NAME"),
        ("alexnet:", "write NAME"),
        ("", "write NAME"),
    ],
)
def test_malformed_names_say_what_is_allowed(text: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        NetworkSpec.parse(text)


def test_name_lists_need_no_torch() -> None:
    code = "import sys, netadapt.zoo, netadapt.train; print({'torch', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
