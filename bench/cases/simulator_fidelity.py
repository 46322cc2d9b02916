"""How near the simulated core comes to published latencies of boards that have it, with ncnn as they were measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from bench.case import Bench, Findings
from bench.stages import Workshop
from netadapt import zoo
from netadapt.errors import CaseError
from netadapt.measure.simulator.fidelity import PublishedBoard, assess, read_published
from netadapt.network.export import to_onnx
from netadapt.results.schema import Figure

_PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "board-latency.csv"


def run(bench: Bench) -> Findings:
    """Simulate the published networks on every board with the platform's core.

    Raises:
        CaseError: no board with the platform's core is in the file of published latencies.
        NetAdaptError: a network could not be simulated.

    """
    bench.observer.stage("simulating networks on published boards")
    rows = [row for board in _boards(bench) for row in _simulate(bench, board)]
    errors = [abs(row["simulated_ns"] / row["published_ns"] - 1) for row in rows if row["dtype"] == "float32"]
    first = float(rows[0]["simulated_ns"])
    return Findings(
        figures={
            "mean_absolute_error": Figure(
                value=statistics.fmean(errors), unit="share", better="lower", origin="derived", tolerance=0.002
            ),
            "worst_error": Figure(value=max(errors), unit="share", better="lower", origin="derived", tolerance=0.002),
            "first_network_latency": Figure(
                value=first, unit="ns", better="neither", origin="measured", samples=(first,), low=first, high=first
            ),
        },
        data={"networks": rows},
        headline="first_network_latency",
    )


def _boards(bench: Bench) -> list[PublishedBoard]:
    core = str(bench.device.platform.core)
    networks = bench.case.parameters["networks"]
    boards = [board for board in read_published(_PUBLISHED) if core.startswith(board.core)]
    if not boards:
        raise CaseError(f"{_PUBLISHED}: no board with the core of {bench.device.platform.name} ({core})")
    return [
        PublishedBoard(
            board.board,
            board.core,
            board.mhz,
            board.dtype,
            {name: value for name, value in board.latencies_ms.items() if name in networks},
        )
        for board in boards
    ]


def _simulate(bench: Bench, board: PublishedBoard) -> list[dict[str, Any]]:
    stage = Workshop(bench.session).stage(
        "board", board=board.board, dtype=board.dtype, networks=sorted(board.latencies_ms)
    )
    return list(stage.do(lambda _: {"rows": _rows(bench, board)})["rows"])


def _rows(bench: Bench, board: PublishedBoard) -> list[dict[str, Any]]:
    return [
        {
            "board": entry.board,
            "core": entry.core,
            "network": entry.network,
            "dtype": entry.dtype,
            "published_ns": entry.published_ms * 1e6,
            "simulated_ns": entry.simulated_ms * 1e6,
        }
        for entry in assess([board], _onnx_of, bench.observer.measured).comparisons
    ]


def _onnx_of(network: str) -> bytes:
    resolved = zoo.resolve(network, classes=None, in_channels=None)
    return to_onnx(resolved.module, resolved.example_input)
