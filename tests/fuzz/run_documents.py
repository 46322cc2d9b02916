"""The folder of a finished run of two iterations, written down: what it would take minutes to make."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.numpy

from netadapt.search.journal import SCHEMA_VERSION

TRAINING = {"steps": 3, "options": {"lr": 0.05, "batch_size": 32}}
CONFIG: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "network": "net",
    "data": "sides",
    "platform": "ort-local",
    "fingerprint": "0123456789abcdef",
    "weights": "fedcba9876543210",
    "budgets": ["latency=0.6x", "macs=50"],
    "selection": "accuracy",
    "strategy": {"racing": False, "groups": 1, "adaptive_steps": False, "growing_slices": False, "parts": 1},
    "pace": {"iterations": 2, "decay": 0.96, "initial_reduction": None},
    "short_term": TRAINING,
    "long_term": TRAINING,
    "device": "cpu",
    "correction": True,
    "seed": 0,
    "workers": 2,
}
ORIGINAL = {"conv.2": 16, "conv.10": 16}
COSTS = {"latency": 1000.0, "macs": 90.0, "params": 40.0}


def events() -> list[dict[str, Any]]:
    """The events of the journal."""
    found = [
        {
            "event": "started",
            "resources": COSTS,
            "score": 0.9,
            "loss": 0.3,
            "seconds": 0.1,
            "corrections": {"latency": {"scale": 1.0, "offset": 5.0, "networks": 3, "residual": 0.01}},
        }
    ]
    widths = [{"conv.2": 8, "conv.10": 16}, {"conv.2": 8, "conv.10": 8}]
    for iteration, after in enumerate(widths):
        group = ("conv.2", "conv.10")[iteration]
        costs = {metric: cost * (1 - 0.25 * (iteration + 1)) for metric, cost in COSTS.items()}
        limited = {metric: costs[metric] for metric in ("latency", "macs")}
        proposal = {"iteration": iteration, "group": group, "widths": after, "resources": limited}
        worse = {**proposal, "group": "other", "widths": {**after, "conv.2": 4}}
        for made, score in ((worse, 0.5), (proposal, 0.8)):
            found.append(
                {
                    "event": "proposal",
                    "outcome": {
                        "proposal": made,
                        "look": {"steps": 3, "images": None, "part": None, "every": None},
                        "score": score,
                        "loss": 0.4,
                        "seconds": 1.0,
                        "weights": "proposals/x.safetensors",
                        "dropped": "" if made is proposal else "the loss became nan",
                        "memory_bytes": 0,
                    },
                }
            )
        accepted = {"iteration": iteration + 1, "group": group, "widths": after, "resources": costs}
        found.append({"event": "accepted", **accepted, "score": 0.8, "loss": 0.4, "wall_seconds": 2.0})
    found += [
        {"event": "fine-tuned", "score": 0.85, "loss": 0.35, "seconds": 3.0},
        {"event": "tested", "scores": [0.9, 0.84], "seconds": 0.2},
        {"event": "finished", "summary": _summary(widths)},
    ]
    return found


def write_run(folder: Path, lines: Sequence[Mapping[str, Any]], config: Any = CONFIG) -> None:
    """Write the folder of a run with these events; its weight files have no weights, and say their widths."""
    for name in ("iteration-00", "iteration-01", "iteration-02", "adapted"):
        weights = folder / "weights" / f"{name}.safetensors"
        weights.parent.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file({}, weights, {"netadapt": json.dumps({"widths": ORIGINAL})})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _summary(widths: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    workloads = ("conv 3->16 8x8 k3x3 s1", "conv 16->16 8x8 k3x3 s1")
    provenance = {
        "runtime": "onnxruntime",
        "runtime_version": "1.0",
        "machine": "a machine",
        "os": "Linux",
        "date": "2026-11-24",
        "netadapt": "0.1.0",
        "protocol_version": 2,
        "commit": None,
    }

    def product(at: Mapping[str, int], share: float) -> dict[str, Any]:
        return {
            "widths": at,
            "macs": round(90 * share),
            "params": round(40 * share),
            "latency_ns": round(1000 * share),
            "latency_status": "converged",
            "predicted_latency_ns": round(1000 * share),
            "holdout_accuracy": 0.9,
            "test_accuracy": 0.9,
            "test_images": 100,
            "onnx": "onnx/adapted.onnx",
            "weights": "weights/adapted.safetensors",
            "provenance": provenance,
            "layers": [{"workload": name, "latency_ns": 400 * share} for name in workloads],
        }

    return {
        "schema_version": SCHEMA_VERSION,
        "network": "net",
        "data": "sides",
        "platform": "ort-local",
        "requested_platform": "ort-local",
        "tier": "local",
        "budget": {
            "latency": {"limit": 600.0, "original": 1000.0, "predicted": 500.0},
            "macs": {"limit": 50.0, "original": 90.0, "predicted": 45.0},
        },
        "budget_met": True,
        "stopped": None,
        "iterations": 2,
        "original": product(ORIGINAL, 1.0),
        "adapted": product(widths[-1], 0.5),
        "speedup": {"ratio": 2.0, "low": 1.9, "high": 2.1, "verdict": "FASTER"},
        "left_out": [{"group": "head", "reason": "its channels are part of the network's output"}],
        "unknown_operations": [],
        "pareto": [
            {"iteration": number, "widths": at, "predicted": {}, "holdout_accuracy": 0.8, "onnx": "onnx/x.onnx"}
            for number, at in enumerate(widths, start=1)
        ],
        "cost": {
            "proposals": 4,
            "dropped_proposals": [{"iteration": 0, "group": "other", "reason": "the loss became nan"}],
            "training_seconds": 5.0,
            "wall_seconds": 9.0,
            "measurements": 12,
        },
    }
