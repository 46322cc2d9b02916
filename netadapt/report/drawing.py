"""Draw with matplotlib and write SVG that belongs to the page it stands on.

Its colours are variables of the palette, its texts are text in the page's font, and its identifiers are its own.
matplotlib is asked for its `Figure` alone, without pyplot, and imported when something is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from netadapt.report.canvas import Canvas

HEAT_STEPS = 8

#: Colours of the palette that figures use, by name.
TOKENS = (
    *("paper", "ink", "muted", "rule", "grid", "band"),
    *("blue", "vermilion", "green", "purple", "ochre", "grey", "fog", "warn"),
    *(f"heat{step}" for step in range(HEAT_STEPS)),
    *(f"heat{step}-text" for step in range(HEAT_STEPS)),
)

#: matplotlib needs real colours: each name has one that nothing else has, and `svg_of` turns it back into the name.
_STAND_INS = {token: f"#fe{index:02x}01" for index, token in enumerate(TOKENS)}
_NAMES = {stand_in: token for token, stand_in in _STAND_INS.items()}

_STAND_IN = re.compile("|".join(_NAMES))
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT_FAMILY = re.compile(r"font-family: [^;]+;? ?")
#: By XML 1.0, section 2.2.
_NOT_TEXT = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


def colour(token: str) -> str:
    """What to tell matplotlib for a colour of the palette."""
    return _STAND_INS[token]


def shortened(text: str, longest: int) -> str:
    """The text, without its middle where it is longer than `longest` letters."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}\N{HORIZONTAL ELLIPSIS}{text[-((longest - 1) // 2) :]}"


class Sheet:
    """A figure in CSS pixels, with panels placed from its upper left corner."""

    def __init__(self, canvas: Canvas, height: float) -> None:
        from matplotlib.figure import Figure

        self.canvas = canvas
        self.height = height
        # With 72 dots an inch, matplotlib's points, pixels and the units of its SVG are one and the same.
        self.figure: Figure = Figure(figsize=(canvas.width / 72, height / 72), dpi=72)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without a frame, whose ticks are words and thin lines."""
        canvas = self.canvas
        axes = self.figure.add_axes(
            (left / canvas.width, 1 - (top + height) / self.height, width / canvas.width, height / self.height)
        )
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(colour("rule"))
        axes.tick_params(length=0, pad=6, labelsize=canvas.note_px, labelcolor=colour("muted"))
        axes.grid(visible=True, color=colour("grid"), linewidth=1)
        return axes

    def axis_titles(self, axes: Axes, x: str, y: str) -> None:
        """Titles of both axes, level: that of y above the panel, that of x below its right end."""
        size, ink = self.canvas.label_px, colour("ink")
        below = self.canvas.note_px + 12
        if y:
            left = -self._tick_space(axes)
            axes.annotate(
                y, (0, 1), (left, 12), xycoords="axes fraction", textcoords="offset points", size=size, color=ink
            )
        axes.annotate(
            x,
            (1, 0),
            (0, -below),
            xycoords="axes fraction",
            textcoords="offset points",
            size=size,
            color=ink,
            ha="right",
            va="top",
        )

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """A text at a place in pixels from the upper left corner."""
        self.figure.text(
            x / self.canvas.width,
            1 - y / self.height,
            text,
            **{"size": self.canvas.note_px, "color": colour("ink"), "va": "baseline", **style},
        )

    def key(self, entries: Sequence[KeyEntry], left: float, top: float, columns: int) -> None:
        """A key of markers and lines at a place in pixels from the upper left corner, row by row."""
        from matplotlib.lines import Line2D

        step = (self.canvas.width - left) / columns
        for index, entry in enumerate(entries):
            x = left + step * (index % columns)
            y = top + self.row * (index // columns)
            line = Line2D(
                [(x + 2) / self.canvas.width, (x + 13) / self.canvas.width, (x + 24) / self.canvas.width],
                [1 - (y - 4) / self.height] * 3,
                markevery=[1],
                transform=self.figure.transFigure,
                **entry.style,
            )
            self.figure.add_artist(line)
            self.text(x + 32, y, entry.label)

    @property
    def row(self) -> float:
        """Height of a row of text."""
        return self.canvas.note_px + 8

    def _tick_space(self, axes: Axes) -> float:
        """How far the panel lies from the left edge of the sheet: where its title begins."""
        return float(axes.get_position().x0 * self.canvas.width)


@dataclass(frozen=True)
class KeyEntry:
    """An entry of a key: matplotlib's style of a line with a marker, and what it means."""

    label: str
    style: dict[str, Any]


def svg_of(
    draw: Callable[[Canvas], Sheet], canvas: Canvas, name: str, title: str, description: str
) -> ElementTree.Element:
    """The SVG element of a figure: coloured by the palette's variables, sized by whoever shows it.

    Args:
        draw: draws the figure.
        canvas: what it is drawn on.
        name: begins each identifier in the element; unique where it will stand.
        title: name of the figure for those who do not see it.
        description: what it shows, for the same.

    """
    with _own_settings(name):
        root = ElementTree.fromstring(_matplotlib_svg(draw(canvas).figure))
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    # It holds a rule for every element of the document, which would be every element of the page.
    for definitions in root.findall(f"{_SVG}defs"):
        if definitions.find(f"{_SVG}style") is not None:
            root.remove(definitions)
    references = set(_references(root))
    for element in root.iter():
        _adopt(element, name, references)
    for element in root.iter("g"):
        _share_style(element)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"class": "plot", "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(position, element)
    return root


def visible(text: str) -> str:
    """A document in which what XML cannot hold, such as a control character in a name, is seen as a mark."""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


@contextmanager
def _own_settings(name: str) -> Iterator[None]:
    """Let the figure depend on nothing but its data, whatever the user has told matplotlib."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Names of networks and groups are no formulas, whatever they have between dollar signs.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False})
        yield


def _matplotlib_svg(figure: Figure) -> str:
    # No date and no version: the same figure gives the same text.
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    text = io.StringIO()
    with warnings.catch_warnings():
        # Of characters that its own font lacks; a browser has others.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    return visible(text.getvalue())


def _references(root: ElementTree.Element) -> Iterator[str]:
    """The identifiers that something in the element refers to."""
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if attribute == _HREF:
                yield value.removeprefix("#")
            yield from _REFERENCE.findall(value)


def _adopt(element: ElementTree.Element, name: str, references: set[str]) -> None:
    """Turn what matplotlib wrote of one element into what belongs on the page."""
    element.tag = element.tag.removeprefix(_SVG)
    attributes = dict(element.attrib)
    element.attrib.clear()
    for attribute, value in attributes.items():
        if attribute == "id":
            if value in references:
                element.attrib["id"] = f"{name}-{value}"
        elif attribute == _HREF:
            element.attrib["href"] = f"#{name}-{value.removeprefix('#')}"
        elif attribute == "style":
            element.attrib["style"] = _restyle(value, name)
        elif attribute in ("d", "x", "y", "transform", "width", "height", "points"):
            element.attrib[attribute] = _shorten(value)
        else:
            element.attrib[attribute] = _rename(value, name)


def _share_style(group: ElementTree.Element) -> None:
    """Say once what all markers of a group look like: there can be thousands."""
    styles = {child.attrib.get("style") for child in group}
    if len(group) > 1 and len(styles) == 1 and all(child.tag == "use" for child in group) and (style := styles.pop()):
        group.attrib["style"] = style
        for child in group:
            del child.attrib["style"]


def _restyle(style: str, name: str) -> str:
    style = _FONT_FAMILY.sub("", style)
    style = _STAND_IN.sub(lambda match: f"var(--{_NAMES[match.group()]})", style)
    return _rename(_shorten(style), name)


def _rename(value: str, name: str) -> str:
    return _REFERENCE.sub(lambda match: f"url(#{name}-{match.group(1)})", value)


def _shorten(value: str) -> str:
    """A hundredth of a pixel is enough."""
    return _LONG_NUMBER.sub(
        lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), value.replace("\n", " ")
    )
