"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with what is counted: "1 iteration", "2 iterations", "12,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
