"""ONNX models as files or their contents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from netadapt.errors import ModelError, reason_of

if TYPE_CHECKING:
    from onnx import ModelProto

#: Of a file, without weights that lie beside it: protobuf reads no more.
_MOST_BYTES = 2 << 30

#: An ONNX file or its contents.
Model = bytes | Path


def model_bytes(model: Model) -> bytes:
    """The contents of a model, with weights that lie in files beside it.

    Raises:
        ModelError: there is no such file, or it is not a model.

    """
    if isinstance(model, bytes):
        return model
    proto = read_model(model)
    try:
        return bytes(proto.SerializeToString())
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"{model}: cannot be read as one piece: {reason_of(error)}") from error


def read_model(model: Model) -> ModelProto:
    """The model, with weights that lie in files beside it, whose names are all text.

    Raises:
        ModelError: there is no such file, or it is not a model.

    """
    import onnx

    name = model_name(model)
    if isinstance(model, Path):
        require_model_file(model)
    try:
        proto = onnx.load(str(model)) if isinstance(model, Path) else onnx.load_model_from_string(model)
        # Names that are no UTF-8 are found here, and not where they are first used.
        for value in (*proto.graph.input, *proto.graph.output):
            value.name.encode()
        for node in proto.graph.node:
            "".join((node.domain, node.op_type, *node.input, *node.output)).encode()
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"{name}: not a model that onnx can read: {reason_of(error)}") from error
    return proto


def require_model_file(path: Path) -> None:
    """Make sure that there is a file that is not too large for a model.

    Raises:
        ModelError: there is none, or it is.

    """
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if path.stat().st_size >= _MOST_BYTES:
        raise ModelError(f"{path}: a model of 2 GiB or more in one file; save it with its weights in a file beside it")


def model_name(model: Model) -> str:
    """What errors call a model."""
    return str(model) if isinstance(model, Path) else "model"
