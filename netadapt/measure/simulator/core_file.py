"""Core files: TOML files that say what the instructions of a core cost, and what its caches and memory do."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from netadapt.measure.definitions import (
    Section,
    definition_error,
    definition_folders,
    definition_names,
    faults_of,
    find_definition,
    read_toml,
)
from netadapt.measure.simulator.core import Cache, Core, Energy, Form, Prefetch

LINE_BYTES = 64

#: What the plugin has room for.
MOST_PORTS = 16
MOST_PORT_GROUPS = 4
MOST_LATENCY = 200
MOST_WINDOW = 512
#: Of memory, ns or MB/s: below it a line would take cycles beyond counting.
LEAST_RATE = 1e-3
#: Streams, ways, micro-ops a cycle, and whatever else there are few of.
MOST_AT_ONCE = 64

#: Forms whose cost LLVM's models do not tell, of every core; beside the generated tables.
COMMON_TABLE = "common.toml"

_Source = Annotated[str, Field(min_length=1)]
_Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
_Latency = Annotated[int, Field(ge=0, le=MOST_LATENCY)]
_MicroOps = Annotated[int, Field(ge=1, le=64)]


class _Number(Section):
    """A number of the core file and where it is from."""

    source: _Source
    #: Chosen so that simulated and published latencies of a board agree.
    fitted: bool = False


class _Megahertz(_Number):
    value: int = Field(ge=1, le=10_000)


class _Small(_Number):
    value: int = Field(ge=1, le=MOST_AT_ONCE)


class _SmallOrNone(_Number):
    value: int = Field(ge=0, le=MOST_AT_ONCE)


class _Window(_Number):
    value: int = Field(ge=1, le=MOST_WINDOW)


class _Cycles(_Number):
    value: int = Field(ge=0, le=MOST_LATENCY)


class _Bytes(_Number):
    value: int = Field(ge=LINE_BYTES, le=1 << 30)


class _Rate(_Number):
    value: float = Field(gt=0, le=1e6)


class _Energy(_Number):
    value: float = Field(ge=0, le=1e6)


class _Clock(Section):
    mhz: _Megahertz


class _Pipeline(Section):
    order: Literal["in-order", "out-of-order"]
    width: _Small
    window: _Window | None = None
    branch_penalty: _Cycles
    ports: Annotated[_Names, Field(max_length=MOST_PORTS)]


class _Cache(Section):
    size_bytes: _Bytes
    ways: _Small
    latency_cycles: _Cycles


class _Prefetch(Section):
    streams: _Small
    confidence: _SmallOrNone
    degree: _SmallOrNone


class _Dram(Section):
    latency_ns: _Rate
    bandwidth_mb_s: _Rate


class _Store(Section):
    buffer_lines: _Small


class _EnergySection(Section):
    integer: _Energy
    load: _Energy
    store: _Energy
    branch: _Energy
    fp_fma_lane: _Energy
    fp_lane: _Energy
    simd: _Energy
    l1_access: _Energy
    l2_access: _Energy | None = None
    l3_access: _Energy | None = None
    dram_line: _Energy
    static_mw: _Energy


class _PortUse(Section):
    any_of: _Names
    cycles: int = Field(ge=1, le=MOST_LATENCY)


_PortUses = Annotated[tuple[_PortUse, ...], Field(strict=False, max_length=MOST_PORT_GROUPS)]


class _Correction(Section):
    forms: _Names
    source: _Source
    latency: _Latency | None = None
    uops: _MicroOps | None = None
    accumulator_advance: _Latency | None = None
    ports: _PortUses | None = None


class _CoreFile(Section):
    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = Field(min_length=1)
    #: What publications of latencies call the boards with this core and this memory.
    boards: Annotated[tuple[str, ...], Field(strict=False)] = ()
    qemu_cpu: str = Field(min_length=1)
    #: The core that the guest's files name, where QEMU has no model of it.
    shown_cpu: str | None = Field(default=None, min_length=1)
    forms: str = Field(min_length=1)
    clock: _Clock
    pipeline: _Pipeline
    cache: Annotated[tuple[_Cache, ...], Field(strict=False, min_length=1, max_length=3)]
    prefetch: _Prefetch
    dram: _Dram
    store: _Store
    energy: _EnergySection
    corrections: Annotated[tuple[_Correction, ...], Field(strict=False)] = ()


class _Group(Section):
    latency: _Latency
    uops: _MicroOps
    ports: _PortUses = ()
    forms: _Names
    source: str = ""


class _FormTable(Section):
    source: _Source
    ports: Annotated[tuple[str, ...], Field(strict=False)] = ()
    group: Annotated[tuple[_Group, ...], Field(strict=False, min_length=1)]


def list_cores() -> list[str]:
    """Names of the bundled cores and of those in the user's configuration folder, sorted."""
    return definition_names(_folders())


def find_core(core: str, board: str, mhz: int) -> Core:
    """The core file that names a board, or else the one of the core's name; with another clock.

    Raises:
        UnknownNameError, DefinitionError: as `load_core`.

    """
    named = [name for name in list_cores() if name.startswith(f"{core}-") and board in load_core(name).boards]
    return load_core(named[0] if named else core, mhz)


def load_core(name_or_path: str | Path, mhz: int | None = None) -> Core:
    """Read a core file: a path of a TOML file, or the name of a bundled core or one of the user's own.

    A user's core goes before a bundled one of the same name. `mhz` is a clock to put in place of the file's; memory
    keeps its latency in ns.

    Raises:
        UnknownNameError: there is no core of that name.
        DefinitionError: the file, one that it extends, or its table of forms cannot be used; all its faults are listed
            with their fields.

    """
    path = find_definition("core", name_or_path, _folders())
    fields = _with_extended(path, ())
    try:
        content = _CoreFile.model_validate(fields)
    except ValidationError as error:
        raise definition_error(path, faults_of(error)) from error
    faults = _structure_faults(content)
    table = _read_forms(Path(content.forms), content.pipeline.ports)
    forms = _corrected(table, content, faults)
    if faults:
        raise definition_error(path, faults)
    return _core(content, forms, mhz or content.clock.mhz.value)


def _core(content: _CoreFile, forms: dict[str, Form], mhz: int) -> Core:
    pipeline, prefetch, dram = content.pipeline, content.prefetch, content.dram
    energy = {
        name: 0.0 if number is None else float(number.value)
        for name in _EnergySection.model_fields
        for number in [getattr(content.energy, name)]
    }
    return Core(
        name=content.name,
        title=content.title,
        qemu_cpu=content.qemu_cpu,
        shown_cpu=content.shown_cpu or content.qemu_cpu,
        mhz=mhz,
        order=pipeline.order,
        width=pipeline.width.value,
        window=pipeline.window.value if pipeline.window else 1,
        branch_penalty=pipeline.branch_penalty.value,
        ports=pipeline.ports,
        caches=tuple(
            Cache(cache.size_bytes.value, cache.ways.value, cache.latency_cycles.value) for cache in content.cache
        ),
        prefetch=Prefetch(prefetch.streams.value, prefetch.confidence.value, prefetch.degree.value),
        dram_latency_cycles=max(1, round(dram.latency_ns.value * mhz / 1000)),
        dram_line_cycles=max(1, round(LINE_BYTES * mhz / dram.bandwidth_mb_s.value)),
        store_buffer_lines=content.store.buffer_lines.value,
        energy=Energy(**energy),
        forms=MappingProxyType(forms),
        boards=content.boards,
        fitted=tuple(_fitted(content, "")),
    )


def _fitted(section: BaseModel, prefix: str) -> list[str]:
    """Fields below a section that are marked as fitted, with their full names."""
    names = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        for index, part in enumerate(value if isinstance(value, tuple) else [value]):
            if not isinstance(part, BaseModel):
                continue
            field = f"{prefix}{name}.{index}" if isinstance(value, tuple) else f"{prefix}{name}"
            names += [field] if getattr(part, "fitted", False) else _fitted(part, f"{field}.")
    return names


# ---- Reading files


def _with_extended(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The fields of a file, laid over those of the file that it extends."""
    fields = read_toml(path, "core file")
    if isinstance(fields.get("forms"), str):
        fields["forms"] = str(path.parent / fields["forms"])
    base_name = fields.pop("extends", None)
    if base_name is None:
        return fields
    if not isinstance(base_name, str):
        raise definition_error(path, [f"extends: should be the name of a core (found {base_name!r})"])
    chain = (*chain, path.resolve())
    folders = [path.parent, *_folders()]
    bases = [folder / f"{base_name.removesuffix('.toml')}.toml" for folder in folders]
    for base in bases:
        # A user's core may extend the bundled one of its own name.
        if os.path.isfile(base) and base.resolve() not in chain:
            return _laid_over(_with_extended(base, chain), fields)
    reason = "extends itself" if any(map(os.path.isfile, bases)) else "there is no such core"
    raise definition_error(path, [f"extends: {reason} (found {base_name!r})"])


def _laid_over(base: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged, corrections come after those of the base, and everything else replaces it."""
    result = dict(base)
    for name, value in fields.items():
        old = result.get(name)
        if name == "corrections" and isinstance(old, list) and isinstance(value, list):
            result[name] = old + value
        elif isinstance(old, dict) and isinstance(value, dict) and "value" not in value:
            result[name] = _laid_over(old, value)
        else:
            result[name] = value
    return result


def _read_forms(path: Path, ports: tuple[str, ...]) -> dict[str, Form]:
    """The table of forms with the common ones that it lacks.

    Raises:
        DefinitionError: a table that cannot be used.

    """
    forms: dict[str, Form] = {}
    common = path.parent / COMMON_TABLE
    for table_path in [common, path] if os.path.isfile(common) else [path]:
        try:
            table = _FormTable.model_validate(read_toml(table_path, "table of forms"))
        except ValidationError as error:
            raise definition_error(table_path, faults_of(error)) from error
        faults: list[str] = []
        for index, group in enumerate(table.group):
            form = Form(group.latency, group.uops, 0, _masks(group.ports, ports, f"group.{index}", faults))
            forms.update(dict.fromkeys(group.forms, form))
        if faults:
            raise definition_error(table_path, faults)
    return forms


def _masks(uses: tuple[_PortUse, ...], ports: tuple[str, ...], field: str, faults: list[str]) -> tuple[Any, ...]:
    """Port uses as (bit mask, cycles); unknown names are added to the faults."""
    masks = []
    for use in uses:
        unknown = [port for port in use.any_of if port not in ports]
        for port in unknown:
            faults.append(f"{field}.ports: the core has no port {port!r}; it has {', '.join(ports)}")
        masks.append((sum(1 << ports.index(port) for port in set(use.any_of) - set(unknown)), use.cycles))
    return tuple(masks)


# ---- Checks between fields


def _structure_faults(content: _CoreFile) -> list[str]:
    pipeline = content.pipeline
    faults = []
    if pipeline.order == "out-of-order" and pipeline.window is None:
        faults.append("pipeline.window: missing; an out-of-order core has one")
    if pipeline.order == "in-order" and pipeline.window is not None:
        faults.append("pipeline.window: an in-order core has none")
    if len(set(pipeline.ports)) < len(pipeline.ports):
        faults.append("pipeline.ports: a port is named twice")
    return faults + _cache_faults(content) + _dram_faults(content) + _energy_faults(content)


def _cache_faults(content: _CoreFile) -> list[str]:
    faults = []
    for index, cache in enumerate(content.cache):
        size, ways = cache.size_bytes.value, cache.ways.value
        sets, rest = divmod(size, ways * LINE_BYTES)
        if rest or sets & (sets - 1) or not sets:
            faults.append(
                f"cache.{index}.size_bytes: {size} bytes are not {ways} ways x {LINE_BYTES} bytes x a power of two"
            )
        if index == 0:
            if cache.latency_cycles.value:
                faults.append("cache.0.latency_cycles: is extra to an L1 hit, so 0 for L1 itself")
            continue
        inner = content.cache[index - 1]
        if size < inner.size_bytes.value:
            faults.append(f"cache.{index}.size_bytes: smaller than the level before it")
        if cache.latency_cycles.value <= inner.latency_cycles.value:
            faults.append(f"cache.{index}.latency_cycles: not above that of the level before it")
    return faults


def _dram_faults(content: _CoreFile) -> list[str]:
    rates = {"latency_ns": content.dram.latency_ns.value, "bandwidth_mb_s": content.dram.bandwidth_mb_s.value}
    return [f"dram.{name}.value: below {LEAST_RATE}" for name, rate in rates.items() if rate < LEAST_RATE]


def _energy_faults(content: _CoreFile) -> list[str]:
    levels = {2: content.energy.l2_access, 3: content.energy.l3_access}
    return [
        f"energy.l{level}_access: missing; the core has {len(content.cache)} levels of cache"
        for level, energy in levels.items()
        if level <= len(content.cache) and energy is None
    ]


def _corrected(forms: dict[str, Form], content: _CoreFile, faults: list[str]) -> dict[str, Form]:
    """The forms after the corrections, in their order; what is wrong with these is added to the faults."""
    forms = dict(forms)
    for index, correction in enumerate(content.corrections):
        field = f"corrections.{index}"
        ports = None if correction.ports is None else _masks(correction.ports, content.pipeline.ports, field, faults)
        for pattern in correction.forms:
            matching = _matching(pattern, forms)
            if not matching:
                faults.append(f"{field}.forms: no form of the table matches {pattern!r}")
            for text in matching:
                old = forms[text]
                forms[text] = Form(
                    latency=_first(correction.latency, old.latency),
                    uops=_first(correction.uops, old.uops),
                    accumulator_advance=_first(correction.accumulator_advance, old.accumulator_advance),
                    ports=old.ports if ports is None else ports,
                )
    early = [text for text, form in forms.items() if form.accumulator_advance > form.latency]
    if early:
        faults.append(f"corrections: accumulator_advance is above the latency of {len(early)} forms, as {early[0]!r}")
    return forms


def _matching(pattern: str, forms: Mapping[str, Form]) -> list[str]:
    """Forms that match a pattern with `*` and `?`; brackets mean themselves, as forms are full of them."""
    expression = re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
    return [text for text in forms if expression.match(text)]


def _first(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _folders() -> list[Path]:
    return definition_folders("cores", "platforms/cores")
