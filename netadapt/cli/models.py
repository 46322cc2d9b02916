"""The models that arguments name: an ONNX file, or a network that is exported."""

from __future__ import annotations

from pathlib import Path


def model_of(model: str, weights: Path | None, classes: int | None, channels: int | None) -> Path | bytes:
    """The ONNX file of that name, or the exported network."""
    from netadapt.arguments import names_file

    if names_file(model):
        return Path(model)
    return onnx_of(model, weights, classes, channels)


def onnx_of(network: str, weights: Path | None, classes: int | None, channels: int | None) -> bytes:
    """Return the network of that name, exported to ONNX."""
    from netadapt import zoo
    from netadapt.network.export import to_onnx

    resolved = zoo.resolve(network, classes=classes, in_channels=channels, weights=weights)
    return to_onnx(resolved.module, resolved.example_input)
