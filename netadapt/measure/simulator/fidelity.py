"""How near simulated latencies come to published ones of real boards.

The published file is a table of whole networks on boards, one board a row: `board, core, mhz, dtype`, then a column a
network with the latency in ms. Lines that start with `#` are remarks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from netadapt.errors import DataError
from netadapt.measure.platform import Dtype, NcnnRuntime, Platform
from netadapt.measure.simulator.core_file import find_core
from netadapt.measure.simulator.device import SimulatedDevice

_COLUMNS = ("board", "core", "mhz", "dtype")
#: Rows of this kind are what the figures are about; others are shown beside them.
REFERENCE_DTYPE = "float32"
#: Sizes of published inputs where they are not the network's usual one; a column can name another: squeezenet@224.
_PUBLISHED_SIZES = {"squeezenet": 227}

#: Gives the ONNX model of a network by its name.
Export = Callable[[str], bytes]
#: Called after each network: how many are done, of how many.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PublishedBoard:
    """One row: latencies in ms by network."""

    board: str
    core: str
    mhz: int
    dtype: Dtype
    latencies_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One network on one board."""

    board: str
    core: str
    #: Core file that was simulated.
    model: str
    dtype: str
    network: str
    published_ms: float
    simulated_ms: float
    #: Parameters of the core file that were fitted to published latencies of the board.
    fitted: tuple[str, ...]

    @property
    def error(self) -> float:
        """Relative error of the simulated latency."""
        return self.simulated_ms / self.published_ms - 1


@dataclass(frozen=True)
class Fidelity:
    """All comparisons of a file."""

    comparisons: tuple[Comparison, ...]

    def mean_absolute_error(self, dtype: str = REFERENCE_DTYPE, core: str | None = None, board: str = "") -> float:
        """Mean absolute relative error over the rows of one dtype, and one core or board if given; NaN without any."""
        errors = [
            abs(entry.error)
            for entry in self.comparisons
            if entry.dtype == dtype and core in (None, entry.core) and board in ("", entry.board)
        ]
        return sum(errors) / len(errors) if errors else math.nan

    @property
    def cores(self) -> list[str]:
        """Cores with a row of the reference dtype."""
        return sorted({entry.core for entry in self.comparisons if entry.dtype == REFERENCE_DTYPE})


def read_published(path: Path) -> list[PublishedBoard]:
    """Read a file of published latencies.

    Raises:
        DataError: it cannot be read, lacks a column, or has a latency that is not a positive number.

    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    rows = [
        (f"{path}, line {number}", _fields(line, f"{path}, line {number}"))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    columns = rows[0][1] if rows else []
    missing = [column for column in _COLUMNS if column not in columns]
    networks = [column for column in columns if column not in _COLUMNS]
    if missing or not networks or len(set(columns)) < len(columns):
        raise DataError(
            f"{path}: needs the columns {', '.join(_COLUMNS)} and one for each network, each once; "
            f"found {', '.join(columns) or 'nothing'}"
        )
    if not rows[1:]:
        raise DataError(f"{path}: has no row")
    return [_board(columns, fields, place) for place, fields in rows[1:]]


def _fields(line: str, where: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise DataError(f"{where}: not a line of a CSV file: {error}") from error


def _board(columns: Sequence[str], fields: Sequence[str], where: str) -> PublishedBoard:
    if len(fields) != len(columns):
        raise DataError(f"{where}: has {len(fields)} fields, the first line {len(columns)}")
    row = dict(zip(columns, fields, strict=True))
    latencies = {name: _positive(text, f"{where}, {name}") for name, text in row.items() if name not in _COLUMNS}
    return PublishedBoard(
        board=row["board"],
        core=row["core"],
        mhz=round(_positive(row["mhz"], f"{where}, mhz")),
        dtype=_dtype(row["dtype"], where),
        latencies_ms=latencies,
    )


def _dtype(text: str, where: str) -> Dtype:
    for dtype in get_args(Dtype):
        if text == dtype:
            return cast(Dtype, dtype)
    raise DataError(f"{where}: dtype should be one of {', '.join(get_args(Dtype))} (found {text!r})")


def _positive(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise DataError(f"{where}: should be a number above 0 (found {text!r})")
    return number


def assess(boards: Sequence[PublishedBoard], export: Export, on_progress: OnProgress) -> Fidelity:
    """Simulate every network on every board, with ncnn as the published latencies were measured.

    Raises:
        SetupError: the simulator is not set up.
        UnknownNameError, DefinitionError: there is no usable core file for a board.
        ModelError, MeasurementError: a network could not be converted or simulated.

    """
    names = dict.fromkeys(network for board in boards for network in board.latencies_ms)
    models = {network: export(_with_size(network)) for network in names}
    total = sum(len(board.latencies_ms) for board in boards)
    comparisons: list[Comparison] = []
    for board in boards:
        for comparison in _assess_board(board, models):
            comparisons.append(comparison)
            on_progress(len(comparisons), total)
    return Fidelity(tuple(comparisons))


def _assess_board(board: PublishedBoard, models: Mapping[str, bytes]) -> Iterable[Comparison]:
    core = find_core(board.core, board.board, board.mhz)
    with SimulatedDevice(_platform(board), core=core) as device, ThreadPoolExecutor(device.capacity) as pool:
        simulated = {network: pool.submit(device.latency_ns, models[network]) for network in board.latencies_ms}
        for network, published_ms in board.latencies_ms.items():
            yield Comparison(
                board=board.board,
                core=board.core,
                model=core.name,
                dtype=board.dtype,
                network=network,
                published_ms=published_ms,
                simulated_ms=simulated[network].result() / 1e6,
                fitted=core.fitted,
            )


def _platform(board: PublishedBoard) -> Platform:
    return Platform(
        schema_version=1,
        name="fidelity",
        title=board.board,
        tier="simulated",
        transport="qemu",
        core=board.core,
        runtime=NcnnRuntime(name="ncnn", dtype=board.dtype),
        width_multiple=1,
        card="Compares the simulator with published latencies.",
    )


def _with_size(network: str) -> str:
    size = _PUBLISHED_SIZES.get(network)
    return f"{network}@{size}" if size else network
