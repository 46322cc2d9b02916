"""Accuracy against latency of all arms: which way of making a network faster costs least accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from netadapt.report.amounts import scale_for
from netadapt.report.canvas import Canvas
from netadapt.report.drawing import KeyEntry, Sheet, colour
from netadapt.results.pareto import pareto_front

#: Arms in the order in which they are explained, as people call them.
ARM_TITLES = {
    "original": "original network",
    "multiplier": "width multiplier, from scratch",
    "uniform": "uniform pruning, fine-tuned",
    "netadapt-macs": "NetAdapt by MACs",
    "netadapt-latency": "NetAdapt by latency",
    "netadapt-macs-retrained": "NetAdapt by MACs, retrained",
    "netadapt-latency-retrained": "NetAdapt by latency, retrained",
}

_MARKS: dict[str, tuple[str, str, str]] = {
    "original": ("ink", "*", "none"),
    "multiplier": ("ochre", "s", "-"),
    "uniform": ("green", "^", "-"),
    "netadapt-macs": ("purple", "D", "-"),
    "netadapt-latency": ("blue", "o", "-"),
    "netadapt-macs-retrained": ("purple", "D", "--"),
    "netadapt-latency-retrained": ("blue", "o", "--"),
}


@dataclass(frozen=True, slots=True)
class Network:
    """One trained network; accuracy as a share of 1."""

    arm: str
    label: str
    latency_ns: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of the networks of one arm and label over the seeds."""

    arm: str
    label: str
    latency_ns: float
    accuracy: float
    networks: int


def means(networks: Sequence[Network]) -> list[Mean]:
    """One for each arm and label, each arm from the fastest to the slowest."""
    groups: dict[tuple[str, str], list[Network]] = {}
    for network in networks:
        groups.setdefault((network.arm, network.label), []).append(network)
    found = [
        Mean(arm, label, fmean(n.latency_ns for n in group), fmean(n.accuracy for n in group), len(group))
        for (arm, label), group in groups.items()
    ]
    return sorted(found, key=lambda mean: (list(ARM_TITLES).index(mean.arm), mean.latency_ns))


def draw(networks: Sequence[Network], canvas: Canvas) -> Sheet:
    """Seeds as faint points, means as marked lines, the front of the means as a broad line behind."""
    averaged = means(networks)
    arms = [arm for arm in ARM_TITLES if any(mean.arm == arm for mean in averaged)]
    key = [KeyEntry(ARM_TITLES[arm], _style(arm)) for arm in arms]
    key.append(KeyEntry("Pareto front of the means", _FRONT))
    columns = 1 if canvas.narrow else 3
    top = 14 + 20 * -(-len(key) // columns) + 34
    left, height = (56, 300) if canvas.narrow else (64, 420)
    sheet = Sheet(canvas, top + height + 46)
    sheet.key(key, 0, 14, columns)
    axes = sheet.panel(left, top, canvas.width - left - 14, height)
    scale = scale_for([network.latency_ns for network in networks], "ns")
    front = pareto_front(averaged)
    axes.step(
        [point.latency_ns / scale.divisor for point in front], [100 * point.accuracy for point in front],
        where="post", **_FRONT,
    )  # fmt: skip
    for arm in arms:
        style = _style(arm)
        axes.plot(
            [network.latency_ns / scale.divisor for network in networks if network.arm == arm],
            [100 * network.accuracy for network in networks if network.arm == arm],
            **{**style, "ls": "none", "ms": 0.7 * style["ms"], "alpha": 0.35}, zorder=2,
        )  # fmt: skip
        own = [mean for mean in averaged if mean.arm == arm]
        axes.plot(
            [mean.latency_ns / scale.divisor for mean in own], [100 * mean.accuracy for mean in own],
            **style, zorder=4 if arm == "netadapt-latency" else 3,
        )  # fmt: skip
    axes.margins(0.05)
    axes.locator_params(nbins=5 if canvas.narrow else 7)
    sheet.axis_titles(axes, f"measured latency, {scale.unit}", "test accuracy, %")
    return sheet


_FRONT: dict[str, Any] = {"color": colour("fog"), "lw": 6, "alpha": 0.6, "solid_capstyle": "round", "zorder": 1}


def _style(arm: str) -> dict[str, Any]:
    token, marker, line = _MARKS[arm]
    hollow = line == "--"
    return {
        "color": colour(token),
        "marker": marker,
        "ms": 13 if marker == "*" else 7,
        "mfc": colour("paper") if hollow else colour(token),
        "mec": colour(token) if hollow else colour("paper"),
        "mew": 1.5 if hollow else 0.8,
        "ls": line,
        "lw": 1.8,
    }
