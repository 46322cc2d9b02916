"""Turn a page into one HTML document that refers to nothing outside itself, and pictures into SVG files."""

from __future__ import annotations

from importlib import resources
from typing import Any
from xml.etree import ElementTree

from netadapt.report.canvas import NARROW, WIDE, Canvas
from netadapt.report.content import Facts, Page, Picture, Remark, Section, Table
from netadapt.report.drawing import svg_of, visible

#: Room around a picture that stands alone, for its title above and its origin below.
_EDGE, _HEAD, _FOOT = 24, 56, 24
_ORIGIN_ROW, _ORIGIN_LENGTH = 17, 118

_TIERS = {
    "device": "a real phone or board",
    "local": "this machine, its own clock",
    "simulated": "cycles of a model of a named core, the same digits on every machine",
    "emulated": "functional only, no claim about time",
}


def html_of(page: Page) -> str:
    """The document; the same page gives the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("netadapt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests.update({"cell": _is_cell, **{kind.__name__.lower(): _is(kind) for kind in _KINDS}})

    def svg(picture: Picture, variant: str) -> Markup:
        return Markup(inline_svg(picture, WIDE if variant == "wide" else NARROW))

    template = environment.get_template("report.html.j2")
    styles = Markup(_asset("palette.css") + _asset("plot.css") + _asset("style.css"))
    return visible(template.render(page=page, svg=svg, styles=styles, tiers=_TIERS))


def inline_svg(picture: Picture, canvas: Canvas) -> str:
    """The picture as an element of the page."""
    name = f"{picture.name}-{'narrow' if canvas.narrow else 'wide'}"
    return _text(svg_of(picture.draw, canvas, name, picture.title, picture.description))


def svg_file(picture: Picture) -> str:
    """The picture as a file of its own, on its own paper, with its title and origin in it."""
    drawn = svg_of(picture.draw, WIDE, picture.name, picture.title, picture.description)
    drawn_height = round(float(drawn.attrib["viewBox"].split()[3]))
    lines = _wrap(picture.provenance)
    width = WIDE.width + 2 * _EDGE
    height = drawn_height + _HEAD + _ORIGIN_ROW * len(lines) + _FOOT
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "width": str(width),
        "height": str(height), "role": "img", "class": "plot",
        "aria-labelledby": drawn.attrib["aria-labelledby"],
    }  # fmt: skip
    root = ElementTree.Element("svg", attributes)
    root.extend(drawn[:2])
    style = ElementTree.SubElement(root, "style")
    style.text = _asset("palette.css") + _asset("plot.css")
    ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "style": "fill: var(--paper)"})
    _line(root, picture.title, _EDGE, 32, "font-size: 16px; font-weight: 600; fill: var(--ink)")
    group = ElementTree.SubElement(root, "g", {"transform": f"translate({_EDGE} {_HEAD})"})
    group.extend(drawn[2:])
    for index, line in enumerate(lines):
        y = _HEAD + drawn_height + 8 + _ORIGIN_ROW * (index + 1) - 4
        _line(root, line, _EDGE, y, "font-size: 12px; fill: var(--muted)")
    return _text(root) + "\n"


def _line(parent: ElementTree.Element, text: str, x: int, y: int, style: str) -> None:
    ElementTree.SubElement(parent, "text", {"x": str(x), "y": str(y), "style": style}).text = text


def _wrap(parts: tuple[str, ...]) -> list[str]:
    """Parts of an origin in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]} \N{MIDDLE DOT} {part}" if lines else part
        if lines and len(joined) <= _ORIGIN_LENGTH:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _text(element: ElementTree.Element) -> str:
    return visible(ElementTree.tostring(element, encoding="unicode"))


def _asset(name: str) -> str:
    return resources.files("netadapt.report").joinpath(name).read_text(encoding="utf-8")


_KINDS = (Facts, Picture, Remark, Section, Table)


def _is(kind: type) -> Any:
    return lambda value: isinstance(value, kind)


def _is_cell(value: object) -> bool:
    return not isinstance(value, str)
