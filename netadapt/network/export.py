"""Export a torch network to ONNX, the one format in which networks reach a device."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from netadapt.errors import ModelError, reason_of
from netadapt.files import write_atomically
from netadapt.standard_output import nothing_printed

#: Read by ONNX Runtime 1.14 and later, so by the builds for older boards too.
OPSET = 17


def to_onnx(module: nn.Module, example_input: Tensor) -> bytes:
    """The ONNX model of `module` in evaluation mode, with static shapes and batch-norms folded.

    `example_input` is `[N, C, H, W]`; the model's input is named `input`, its output `output`.

    Raises:
        ModelError: torch cannot export the network; names the operation.

    """
    buffer: Any = io.BytesIO()
    try:
        exported = copy.deepcopy(module).eval()  # exporting leaves marks on a module
        with warnings.catch_warnings(), torch.no_grad(), nothing_printed():  # torch prints what it cannot export
            warnings.simplefilter("ignore")
            # The TorchScript exporter takes 0.1 s where torch.export takes 2 s, and folds batch-norms by itself.
            torch.onnx.export(
                exported,
                (example_input.clone(),),
                buffer,
                input_names=["input"],
                output_names=["output"],
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:
        raise ModelError(f"{type(module).__name__} cannot be exported to ONNX: {reason_of(error)}") from error
    return _without_aliases(buffer.getvalue())


def write_onnx(path: Path, model: bytes, metadata: dict[str, str] | None = None) -> None:
    """Write `model` to `path` in one step, with `metadata` in the model's own properties, sorted.

    Raises:
        ModelError: the file cannot be written (a full disk, say).

    """
    proto = onnx.load_model_from_string(model)
    onnx.helper.set_model_props(proto, dict(sorted((metadata or {}).items())))
    try:
        write_atomically(path, proto.SerializeToString())
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be written ({error})") from error


def _without_aliases(model: bytes) -> bytes:
    """Replace the `Identity` nodes by which the exporter shares equal parameters with plain initializers."""
    proto = onnx.load_model_from_string(model)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    aliases = [node for node in proto.graph.node if node.op_type == "Identity" and node.input[0] in constants]
    for node in aliases:
        constant = onnx.TensorProto()
        constant.CopyFrom(constants[node.input[0]])
        constant.name = node.output[0]
        proto.graph.initializer.append(constant)
        proto.graph.node.remove(node)
    return bytes(proto.SerializeToString())
