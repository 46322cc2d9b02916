"""A library together with what it has to compute, which is how one that no ONNX file stands for reaches a board."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from netadapt.measure.tvm.library import Library, Tensor
from netadapt.measure.tvm.reference import Example

_LIBRARY = "library"
_INTERFACE = "interface"
_INPUT = "input "
_OUTPUT = "output "


@dataclass(frozen=True, slots=True)
class CheckedLibrary:
    """Compiled code that is timed only if it gives the outputs of the example."""

    library: Library
    example: Example

    def to_bytes(self) -> bytes:
        """The same as bytes, for another process."""
        interface = {"inputs": _facts(self.library.inputs), "outputs": _facts(self.library.outputs)}
        stream = io.BytesIO()
        np.savez(
            stream,
            allow_pickle=False,
            **{
                _LIBRARY: np.frombuffer(self.library.content, np.uint8),
                _INTERFACE: np.frombuffer(json.dumps(interface).encode(), np.uint8),
                **{_INPUT + name: array for name, array in self.example.inputs.items()},
                **{_OUTPUT + name: array for name, array in self.example.outputs.items()},
            },
        )
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Undo `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            interface = json.loads(arrays[_INTERFACE].tobytes())
            inputs, outputs = (
                {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
                for kind in (_INPUT, _OUTPUT)
            )
            library = Library(arrays[_LIBRARY].tobytes(), _tensors(interface["inputs"]), _tensors(interface["outputs"]))
        return cls(library, Example(inputs, outputs))


def _facts(tensors: tuple[Tensor, ...]) -> list[dict[str, object]]:
    return [asdict(tensor) for tensor in tensors]


def _tensors(facts: list[dict[str, object]]) -> tuple[Tensor, ...]:
    # JSON has lists for tuples.
    return tuple(
        Tensor(**{name: tuple(value) if isinstance(value, list) else value for name, value in fact.items()})  # type: ignore[arg-type]
        for fact in facts
    )
