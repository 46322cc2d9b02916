"""An entry of the look-up table, and what it may hold wherever it is read from: a table or an exported file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictStr, TypeAdapter, ValidationError

from netadapt.measure.measurement import UNITS, Measurement, Provenance, Status, Tier
from netadapt.network.workload import Workload

#: What SQLite can store.
_Count = Annotated[int, Field(ge=0, lt=1 << 63, strict=True)]
#: No operation has a size beyond this, and products of a few such sizes are still numbers one can work with.
_MOST_SIZE = 1 << 31


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table."""

    workload: Workload
    measurement: Measurement


@dataclass(frozen=True)
class Numbers:
    """The fields of a `Measurement` but for its provenance, with the values that each may have."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    metric: StrictStr
    unit: StrictStr
    value: _Count
    minimum: _Count
    median: _Count
    mad: _Count
    samples: _Count
    clean_fraction: Annotated[float, Field(ge=0, le=1, strict=True)]
    relative_half_width: Annotated[float, Field(ge=0, strict=True)] | None
    status: Status
    tier: Tier


_NUMBERS = TypeAdapter(Numbers)
_WORKLOAD = TypeAdapter(Workload)
_PROVENANCE = TypeAdapter(Provenance)


class EntryFaults(Exception):  # noqa: N818 - several faults, which the reader of the file reports as its own error
    """List the faults of a part of an entry, each with its field."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_workload(text: str) -> Workload:
    """Read a workload from its canonical text.

    Raises:
        EntryFaults: it is not one, or its text is not the canonical one: its key would not be the one that is looked
            up.

    """
    try:
        workload = _WORKLOAD.validate_json(text, strict=True)
    except ValidationError as error:
        raise EntryFaults([place_of(fault, "workload") for fault in error.errors()]) from error
    if workload.to_json() != text:
        raise EntryFaults(["workload: fields missing, too many, or not in canonical form"])
    if faults := _size_faults(workload):
        raise EntryFaults(faults)
    return workload


def read_numbers(fields: dict[str, Any]) -> Numbers:
    """Check the fields of a measurement.

    Raises:
        EntryFaults: one is missing, of another type, or has a value that no measurement has.

    """
    try:
        numbers = _NUMBERS.validate_python(fields)
    except ValidationError as error:
        raise EntryFaults([place_of(fault) for fault in error.errors()]) from error
    require_unit(numbers)
    return numbers


def read_provenance(text: str) -> Provenance:
    """Read a provenance.

    Raises:
        EntryFaults: it is not one.

    """
    try:
        return _PROVENANCE.validate_json(text, strict=True)
    except ValidationError as error:
        raise EntryFaults([place_of(fault, "provenance") for fault in error.errors()]) from error


def require_unit(numbers: Numbers) -> None:
    """Check that the metric is known and has its unit.

    Raises:
        EntryFaults: it has not.

    """
    if UNITS.get(numbers.metric) != numbers.unit:
        raise EntryFaults([f"unit: metric {numbers.metric!r} in {numbers.unit!r}; known: {UNITS}"])


def place_of(fault: Any, part: str = "") -> str:
    """One of pydantic's faults with its place, below the `part` that was read."""
    place = ".".join(map(str, [part, *fault["loc"]] if part else fault["loc"]))
    return f"{place or 'file'}: {fault['msg']}"


def _size_faults(workload: Workload) -> list[str]:
    """Check what the types of the fields cannot say."""
    smallest = {"padding": 0}
    sizes = {
        "in_channels": workload.in_channels,
        "out_channels": (workload.out_channels,),
        "in_size": workload.in_size,
        "kernel": workload.kernel,
        "stride": workload.stride,
        "padding": workload.padding,
        "dilation": workload.dilation,
        "groups": (workload.groups,),
        "batch": (workload.batch,),
    }
    return [
        f"workload.{name}: {list(values)} is not {smallest.get(name, 1)} to {_MOST_SIZE}"
        for name, values in sizes.items()
        if not values or min(values) < smallest.get(name, 1) or max(values) > _MOST_SIZE
    ]
