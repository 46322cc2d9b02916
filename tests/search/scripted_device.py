"""A device whose clock is a function of the widths of `small_network`, so that what a search must do is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
from small_search import SIZE

from netadapt.measure.device import Device, Model
from netadapt.measure.measurement import Measurement, Tier
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import Block, BlockSource
from netadapt.network.workload import Workload

#: MACs of `small_network` as it is: 8*8*9*48 + 4*4*9*48*48 + 4*4*48*32 + 32*2.
ORIGINAL = 384_064


class ScriptedDevice(Device):
    """A layer costs a nanosecond for each MAC, a network of so many MACs what `whole` says. Counts what it measures."""

    def __init__(self, whole: Callable[[int], float], tier: Tier = "simulated", half_width: float = 0.0) -> None:
        super().__init__(load_platform("ort-local").model_copy(update={"tier": tier, "width_multiple": 2}))
        self.networks = 0
        self.layers = 0
        self.compared = 0
        self._whole = whole
        self._half_width = half_width

    def costs(self, model: Model) -> dict[str, Measurement]:
        self.networks += 1
        return {"latency": self._measurement(self._whole(macs(model)))}

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        self.layers += 1
        return {"latency": self._measurement(workload.macs)}

    @contextmanager
    def load(self, model: Model) -> Iterator[BlockSource]:
        self.compared += 1
        yield _Steady(self._whole(macs(model)))

    def _measurement(self, cost: float) -> Measurement:
        value = round(cost)
        return Measurement(
            *("latency", "ns", value, value, value, 0, 1, 1.0, self._half_width, "converged"),
            tier=self.platform.tier,
            provenance=self.provenance(
                "model", runtime="onnxruntime", runtime_version="1", machine_name="made up", cores=1, system="none"
            ),
        )


class _Steady:
    """Blocks of one cost."""

    def __init__(self, cost: float) -> None:
        self._cost = cost

    def warm_up(self) -> None:
        pass

    def block(self) -> Block:
        return Block(self._cost)


def macs(model: Model) -> int:
    """MACs of a network of the shape of `small_network`, read from its ONNX file."""
    loaded = onnx.load(model) if isinstance(model, Path) else onnx.load_model_from_string(model)
    shapes: Mapping[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in loaded.graph.initializer}
    weights = [shapes[node.input[1]] for node in loaded.graph.node if node.op_type == "Conv"]
    (a, *_), (b, *_), (c, *_) = weights
    half = SIZE // 2
    return SIZE * SIZE * 9 * a + half * half * 9 * a * b + half * half * b * c + 2 * c
