"""One fused operation as a device runs it: the key of the look-up table.

This module needs neither torch nor onnx, so that tables and platforms can be handled without them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Op = Literal[
    "conv",
    "linear",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "add",
    "mul",
    "scale",
    "concat",
    "batch_norm",
    "activation",
]
Activation = Literal["none", "relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "silu", "tanh"]

OPS: tuple[str, ...] = get_args(Op)
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True)
class Workload:
    """A convolution with folded batch-norm and activation, a pool, an addition, ... with all its sizes.

    Every input is `[batch, in_channels[i], *in_size]`, the output `[batch, out_channels, *out_size]`; a `linear`
    takes `[batch, in_channels[0]]`. The second input of a `scale` (squeeze-excite) is `[batch, channels, 1, 1]`.

    A depthwise convolution is a `conv` with `groups == in_channels[0] == out_channels`.
    """

    op: Op
    in_channels: tuple[int, ...]
    out_channels: int
    in_size: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = True
    activation: Activation = "none"
    dtype: Literal["float32"] = "float32"
    batch: int = 1

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        if self.op == "global_avg_pool":
            return (1, 1)
        if self.op not in ("conv", "max_pool", "avg_pool"):
            return self.in_size
        return (self._out_length(0), self._out_length(1))

    def _out_length(self, axis: int) -> int:
        stride, padding = self.stride[axis], self.padding[axis]
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        span = self.in_size[axis] + 2 * padding - reach
        length = (-(-span // stride) if self.ceil_mode else span // stride) + 1
        # As in torch: with ceil_mode the last window must start inside the input or its left padding.
        if self.ceil_mode and (length - 1) * stride >= self.in_size[axis] + padding:
            length -= 1
        return length

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers; other operations count as none."""
        if self.op == "linear":
            return self.batch * self.in_channels[0] * self.out_channels
        if self.op != "conv":
            return 0
        height, width = self.out_size
        taps = self.kernel[0] * self.kernel[1] * (self.in_channels[0] // self.groups)
        return self.batch * height * width * self.out_channels * taps

    def to_json(self) -> str:
        """The canonical text: equal workloads give equal texts, on every machine and version."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Workload:
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = tuple(value)
        return cls(**fields)

    @property
    def digest(self) -> str:
        """Hash of the canonical text, 32 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]

    def __str__(self) -> str:
        kind: str = self.op
        if self.op == "conv" and self.groups == self.in_channels[0] == self.out_channels > 1:
            kind = "depthwise"
        channels = "+".join(map(str, self.in_channels)) + f"->{self.out_channels}"
        height, width = self.in_size
        text = f"{kind} {channels} {height}x{width}"
        if self.op in ("conv", "max_pool", "avg_pool"):
            text += f" k{self.kernel[0]}x{self.kernel[1]} s{self.stride[0]}"
        return text if self.activation == "none" else f"{text} {self.activation}"


#: The smallest workload there is: what a runtime spends on a run that computes nothing.
EMPTY_RUN = Workload("activation", (1,), 1, activation="relu")
