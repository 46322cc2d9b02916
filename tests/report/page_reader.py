"""Reads a report as a reader's program would: its visible text, its identifiers and what it refers to."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_TYPED = str.maketrans({"\N{NO-BREAK SPACE}": " ", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x"})
_SILENT = ("style", "title", "desc")


def typed(text: str) -> str:
    """Text without the signs that only a typesetter would tell apart."""
    return text.translate(_TYPED)


class PageReader(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.headings: list[int] = []
        #: Values of all attributes that name something to load or to jump to.
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(page.read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        """All visible text, as one would type it."""
        return typed(" ".join(" ".join(self.words).split()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._silent += tag in _SILENT
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "data"):
                self.references.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)
