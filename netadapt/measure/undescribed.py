"""Models without what describes them: who made them, from what and for what. A runtime keeps it, but does not need it.

On a simulated core its length would count: it moves what the runtime allocates, and so which lines of the caches.
"""

from __future__ import annotations

from typing import Any

import onnx

from netadapt.errors import ModelError

#: Shown of every model, so that it does not matter by which version of PyTorch a network was exported.
_PRODUCER = {"producer_name": "pytorch", "producer_version": "2.13.0"}
_GRAPH = "main_graph"
_DESCRIPTIONS = ("doc_string", "metadata_props")


def undescribed_onnx(model: bytes) -> bytes:
    """The same model with no documentation and no metadata anywhere in it, and with one name for graph and producer.

    Names of nodes and tensors stay, as do functions and graphs inside nodes.

    Raises:
        ModelError: not an ONNX model.

    """
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's errors are not part of onnx's interface
        raise ModelError(f"not a model that onnx can read: {error}") from error
    _clear(proto, *_DESCRIPTIONS, "domain", "model_version")
    for name, text in _PRODUCER.items():
        setattr(proto, name, text)
    _clear(proto.graph, *_DESCRIPTIONS)
    proto.graph.name = _GRAPH
    for part in _parts(proto.graph):
        _clear(part, *_DESCRIPTIONS)
    return bytes(proto.SerializeToString())


def _parts(graph: Any) -> list[Any]:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    return [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *attributes]


def _clear(part: Any, *names: str) -> None:
    # Which parts can have metadata depends on onnx's version.
    known = part.DESCRIPTOR.fields_by_name
    for name in names:
        if name in known:
            part.ClearField(name)
