"""ONNX models as files or their contents."""

from __future__ import annotations

from pathlib import Path

from netadapt.errors import ModelError

#: An ONNX file or its contents.
Model = bytes | Path


def model_bytes(model: Model) -> bytes:
    """The contents of a model, with weights that lie in files beside it.

    Raises:
        ModelError: there is no such file, or it is not a model.

    """
    if isinstance(model, bytes):
        return model
    import onnx

    if not model.is_file():
        raise ModelError(f"{model}: there is no such file")
    try:
        return bytes(onnx.load(str(model)).SerializeToString())
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"{model}: not a model that onnx can read: {error}") from error


def model_name(model: Model) -> str:
    """What errors call a model."""
    return str(model) if isinstance(model, Path) else "model"
