"""The paper a figure is drawn on: wide for a screen or print, narrow for a phone. One unit is one CSS pixel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Canvas:
    """Width of a figure and the sizes of its texts, chosen so that a text scaled to its screen has 9 px at least."""

    width: int
    narrow: bool
    #: Of axis titles and direct labels.
    label_px: float
    #: Of tick labels and notes.
    note_px: float


WIDE = Canvas(880, narrow=False, label_px=13, note_px=12)
NARROW = Canvas(360, narrow=True, label_px=12, note_px=11)
