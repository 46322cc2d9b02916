from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from netadapt.errors import ModelError
from netadapt.network.export import to_onnx
from netadapt.network.network import analyse


class Network(nn.Module):
    """Two convolutions and a classifier, whose logits a function turns into what the network returns."""

    def __init__(self, result: Callable[[Network, Tensor], Any] = lambda network, logits: logits) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Linear(16 * 16, 10)
        self.register_buffer("state", torch.zeros(1))
        self.result = result

    def forward(self, images: Tensor) -> Any:
        return self.result(self, self.classifier(self.layers(images)))


IMAGE = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)


def fail(network: Network, logits: Tensor) -> Tensor:
    raise KeyError("one line\nand another")


def drift(network: Network, logits: Tensor) -> Tensor:
    network.state += 1
    return logits + network.state


REFUSED: dict[str, tuple[Callable[[Network, Tensor], Any], str]] = {
    "dropout": (lambda _, logits: functional.dropout(logits, 0.5), r"is not deterministic: run twice on the same"),
    "noise": (lambda _, logits: logits + torch.randn_like(logits), r"is not deterministic"),
    "a state": (drift, r"is not deterministic"),
    "nothing": (lambda _, logits: None, r"returns no tensor"),
    "a text": (lambda _, logits: "cat", r"returns no tensor"),
    "NaN": (
        lambda _, logits: logits * torch.nan,
        r"is not sound: its weights are finite, but its output .* has NaN",
    ),
    "an error": (fail, r"cannot be run on an input of shape \[1, 3, 8, 8\]: KeyError: "),
    "an exit": (lambda _, logits: sys.exit(3), r"cannot be run on an input of shape .*: SystemExit: 3"),
}


@pytest.mark.parametrize(("result", "message"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_cannot_be_judged_is_refused_in_one_line(
    result: Callable[[Network, Tensor], Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"^net {message}") as raised:
        analyse("net", Network(result), IMAGE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_damaged_weights_are_named(value: float) -> None:
    network = Network()
    network.classifier.bias.data[3] = value
    with pytest.raises(ModelError, match=r"^net: 1 of 10 values of classifier.bias are NaN or infinite; the weights"):
        analyse("net", network, IMAGE)


def test_a_mask_may_be_infinite() -> None:
    network = Network(lambda network, logits: logits + 0 * network.state.exp())
    network.state.fill_(-torch.inf)
    assert analyse("net", network, IMAGE).groups


@pytest.mark.parametrize(
    "result",
    [
        lambda _, logits: (logits, None),
        lambda _, logits: {"logits": logits, "auxiliary": None},
        lambda _, logits: [[logits], {"twice": 2 * logits}, "cat"],
    ],
    ids=["None", "dict", "nested"],
)
def test_what_is_no_tensor_among_the_outputs_is_no_obstacle(result: Callable[[Network, Tensor], Any]) -> None:
    assert list(analyse("net", Network(result), IMAGE).groups) == list(analyse("net", Network(), IMAGE).groups)


def test_exporting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    network = Network(lambda _, logits: print("from the network") or torch.fft.fft(logits).abs())
    with pytest.raises(ModelError, match=r"^Network cannot be exported to ONNX: UnsupportedOperatorError: .*fft_fft"):
        to_onnx(network, IMAGE)
    assert capfd.readouterr().out == ""
