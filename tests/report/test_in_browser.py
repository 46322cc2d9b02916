"""The report in a real browser: it renders without complaint and is readable on wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, Tab
from sample_results import write_large, write_sample

from netadapt.report.report import write_pictures, write_report

pytestmark = pytest.mark.timeout(180)

#: A laptop's window, one just wide enough for the wide figures, and a phone.
WIDTHS = (1280, 745, 400)
SCHEMES = ("light", "dark")
SMALLEST_TEXT_PX = 9
LEAST_CONTRAST = 4.5

#: Every visible text with the size at which it is seen, its colour, and the colour that it stands on.
TEXTS = """
(() => {
  const opaque = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(", 0)") && colour !== "transparent") return colour;
    }
  };
  const shape = (text) => {
    text.scrollIntoView({block: "center", inline: "center"});
    const box = text.getBoundingClientRect();
    const found = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    for (const element of found) {
      const style = getComputedStyle(element);
      const solid = style.fill !== "none" && style.fillOpacity === "1" && style.opacity === "1";
      const drawn = element.closest("svg") && element.closest("defs") === null;
      if (drawn && ["path", "rect"].includes(element.localName) && solid) return style.fill;
    }
    return opaque(text);
  };
  const texts = [];
  for (const text of document.querySelectorAll("svg text")) {
    if (!text.checkVisibility()) continue;
    const style = getComputedStyle(text);
    const scale = Math.abs(text.getScreenCTM().a);
    texts.push([text.textContent, parseFloat(style.fontSize) * scale, style.fill, shape(text)]);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("svg") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    texts.push([node.textContent.trim(), parseFloat(style.fontSize), style.color, opaque(element)]);
  }
  return texts;
})()
"""

#: Texts of a figure that leave its frame, or the window.
OUTSIDE = """
[...document.querySelectorAll("svg.plot text")].filter((text) => text.checkVisibility()).filter((text) => {
  const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  return box.left < frame.left - 1 || box.right > frame.right + 1 || box.right > innerWidth;
}).map((text) => text.textContent)
"""

#: What the figures that are seen stand in.
VARIANTS = """
[...document.querySelectorAll("svg.plot")].filter((plot) => plot.checkVisibility())
  .map((plot) => plot.parentElement.className)
"""

#: Pairs of texts of a figure that lie on each other.
OVERLAPS = """
[...document.querySelectorAll("svg.plot")].filter((plot) => plot.checkVisibility()).flatMap((plot) => {
  const boxes = [...plot.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([name, a], index) => boxes.slice(index + 1).filter(([_, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
  ).map(([other]) => `${name} / ${other}`));
})
"""


@pytest.fixture(scope="session")
def pages(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a run, of results on two platforms, and of a network that is large in every way."""
    folder = tmp_path_factory.mktemp("pages")
    write_sample(folder / "results", "sim-cortex-a72", "simulated")
    write_sample(folder / "results", "ort-local", "local")
    return {
        "run": write_report(finished_run, folder / "run.html"),
        "results": write_report(folder / "results", folder / "results.html"),
        "large": write_report(write_large(folder / "large"), folder / "large.html"),
    }


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "results", "large"])
def test_a_report_is_readable(
    browser: Browser, pages: dict[str, Path], tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    tab = Tab(browser, width, scheme)
    tab.open(pages[name])
    tab.screenshot(tmp_path / f"{name}-{width}-{scheme}.png")
    assert tab.complaints == []
    assert tab.requests == [pages[name].as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(OUTSIDE) == []
    assert tab.evaluate(OVERLAPS) == []
    texts = tab.evaluate(TEXTS)
    assert len(texts) > 100
    assert [(text, size) for text, size, _, _ in texts if size < SMALLEST_TEXT_PX] == []
    faint = [(text, ink, paper) for text, _, ink, paper in texts if contrast(ink, paper) < LEAST_CONTRAST]
    assert faint == []
    dark = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1
    assert dark == (scheme == "dark")


def test_each_width_has_its_own_variant_of_a_figure(browser: Browser, pages: dict[str, Path]) -> None:
    for width, variant in ((1280, "wide"), (400, "narrow")):
        tab = Tab(browser, width, "light")
        tab.open(pages["run"])
        assert set(tab.evaluate(VARIANTS)) == {variant}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pictures_follow_the_scheme_on_paper_of_their_own(
    browser: Browser, finished_run: Path, tmp_path: Path, scheme: str
) -> None:
    for path in write_pictures(finished_run, tmp_path):
        tab = Tab(browser, 928, scheme)
        tab.open(path)
        paper = tab.evaluate("getComputedStyle(document.querySelector('rect')).fill")
        ink = tab.evaluate("getComputedStyle(document.querySelector('text')).fill")
        assert (luminance(paper) < 0.1) == (scheme == "dark")
        assert contrast(ink, paper) >= LEAST_CONTRAST
        assert tab.complaints == []
