"""What a report consists of, before it is HTML: a page of sections of pictures, tables and remarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netadapt.report.canvas import Canvas
    from netadapt.report.drawing import Sheet


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a picture or table come from."""

    tier: str
    #: Empty where a host's own clock was read.
    platform: str
    #: The platform asked for, where a fallback took its place.
    requested: str = ""
    #: Runtime and its version; empty where it is not known.
    runtime: str = ""
    commit: str = ""
    date: str = ""
    #: Anything else that decides how far the numbers go: the benchmark's profile, a file.
    remarks: tuple[str, ...] = ()

    def parts(self, unit: str) -> tuple[str, ...]:
        """Unit, tier, platform, runtime and version, commit, date, in this order, as far as they are known."""
        instead = f" (asked for: {self.requested})" if self.requested not in ("", self.platform) else ""
        known = (
            unit,
            f"tier: {self.tier}",
            f"platform {self.platform}{instead}" if self.platform else "",
            self.runtime,
            *self.remarks,
            f"commit {self.commit}" if self.commit else "",
            self.date,
        )
        return tuple(part for part in known if part)


@dataclass(frozen=True)
class Cell:
    """A table's cell with a mark: a measurement's status, a verdict."""

    text: str
    mark: str = ""
    #: "warn" for what should not be trusted, "good", or "".
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row, `words` names the columns that hold text."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    origin: Origin | None = None
    unit: str = ""
    words: frozenset[int] = frozenset({0})

    @property
    def provenance(self) -> tuple[str, ...]:
        """The parts of its line of origin."""
        return self.origin.parts(self.unit) if self.origin else ()


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn on a wide and on a narrow canvas."""

    #: Unique on the page; also the file name of the picture.
    name: str
    title: str
    #: For those who do not see it.
    description: str
    #: One sentence, what is seen.
    caption: str
    unit: str
    origin: Origin
    draw: Callable[[Canvas], Sheet] = field(repr=False)

    @property
    def provenance(self) -> tuple[str, ...]:
        """The parts of its line of origin."""
        return self.origin.parts(self.unit)


@dataclass(frozen=True)
class Remark:
    """A sentence; `tone` "warn" for what a reader must not miss."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Headline:
    """A number that the page is about."""

    label: str
    value: str
    #: Its interval, and what it is measured against.
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values, such as a platform's card."""

    caption: str
    rows: tuple[tuple[str, str], ...]
    prose: str = ""


Block = Picture | Table | Remark | Facts


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it; `id` is unique on the page."""

    id: str
    title: str
    blocks: tuple[Block, ...] = ()
    headlines: tuple[Headline, ...] = ()
    sections: tuple[Section, ...] = ()

    def pictures(self) -> list[Picture]:
        """Its pictures and those of the sections in it, in order."""
        own = [block for block in self.blocks if isinstance(block, Picture)]
        return own + [picture for section in self.sections for picture in section.pictures()]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    kicker: str
    lead: str
    #: The command that makes these numbers.
    command: str
    sections: tuple[Section, ...]
    tier: str = ""
    headlines: tuple[Headline, ...] = ()
    #: Shown above everything else.
    remarks: tuple[Remark, ...] = ()

    def pictures(self) -> list[Picture]:
        """All pictures, in order."""
        return [picture for section in self.sections for picture in section.pictures()]


def present(blocks: Sequence[Block | None]) -> tuple[Block, ...]:
    """The blocks that there are."""
    return tuple(block for block in blocks if block is not None)
