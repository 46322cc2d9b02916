"""Walk through values that JSON or TOML held, however deep they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any


def levels(value: Any) -> Iterator[list[Any]]:
    """Yield the value, then all that it holds, then all that those hold, and so on; keys of dicts among them."""
    level = [value]
    while level:
        yield level
        tables = [entry for entry in level if isinstance(entry, dict)]
        level = list(chain(*tables, *(table.values() for table in tables), *(x for x in level if isinstance(x, list))))


def is_deeper(value: Any, most: int) -> bool:
    """Whether a value is nested more than `most` levels deep, which recursion would fear."""
    return next(islice(levels(value), most, None), None) is not None
