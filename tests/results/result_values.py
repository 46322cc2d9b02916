"""Results written out: one figure, case, run or card, of which a test changes what it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from netadapt.measure import statistics
from netadapt.results.files import layout, seal
from netadapt.results.schema import SCHEMA_VERSION, CaseResult, Figure, Made, PlatformCard, ResultFile

DATE, COMMIT = "2026-11-20", "0123456789ab"
SAMPLES = (2.00e6, 2.02e6, 1.99e6, 2.01e6, 2.03e6, 2.00e6, 2.01e6)


def latency(samples: tuple[float, ...] = SAMPLES, **changes: Any) -> Figure:
    """A latency measured in rounds, beside a reference that took half a millisecond in each."""
    fields: dict[str, Any] = {
        "value": statistics.median(samples),
        "unit": "ns",
        "better": "lower",
        "origin": "measured",
        "low": min(samples),
        "high": max(samples),
        "samples": samples,
        "reference_ns": (5e5,) * len(samples),
    }
    return Figure(**{**fields, **changes})


def share(value: float, **changes: Any) -> Figure:
    """An accuracy: higher is better, a difference of half a percent says nothing."""
    fields: dict[str, Any] = {"unit": "share", "better": "higher", "origin": "evaluated", "tolerance": 0.005}
    return Figure(value=value, **{**fields, **changes})


def case(figures: dict[str, Figure] | None = None, **changes: Any) -> CaseResult:
    fields: dict[str, Any] = {
        "id": "lut_accuracy",
        "version": 1,
        "digest": "d1",
        "parameters": {"networks": 50},
        "figures": {"latency": latency()} if figures is None else figures,
        "data": {"network": "mobilenet_v1", "networks": [{"widths": {"conv1": 8, "conv2": 16}, "measured_ns": 2.0}]},
    }
    return CaseResult(**{**fields, **changes})


def run(*cases: CaseResult, **changes: Any) -> ResultFile:
    """A run on `ort-local`, of one case if none are given."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "platform": "ort-local",
        "requested": "ort-local",
        "tier": "local",
        "fingerprint": "f1",
        "clock": "platform",
        "profile": "quick",
        "protocol_version": 2,
        "made": Made(date=DATE, commit=COMMIT, netadapt="0.1"),
        "environment": {"onnxruntime": "1.27.0", "machine": "x86_64"},
        "cases": cases or (case(),),
    }
    return ResultFile(**{**fields, **changes})


def host_run(*cases: CaseResult, **changes: Any) -> ResultFile:
    return run(*cases, **{"clock": "host", **changes})


def made(date: str = DATE, commit: str | None = COMMIT, time: str | None = None) -> Made:
    return Made(date=date, time=time, commit=commit, netadapt="0.1")


def card(**changes: Any) -> PlatformCard:
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "ort-local",
        "title": "ONNX Runtime on this machine",
        "tier": "local",
        "fingerprint": "f1",
        "definition": {"name": "ort-local", "runtime": {"name": "ort", "threads": 1}},
    }
    return PlatformCard(**{**fields, **changes})


def edit(path: Path, reseal: bool, **fields: Any) -> None:
    """Change fields of a file on disk, with or without a seal that fits."""
    content = json.loads(path.read_text())
    content.update(fields)
    if reseal:
        del content["seal"]
        content["seal"] = seal(content)
    path.write_text(layout(content) + "\n")
