"""What figures show, in numbers worked out by hand."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from page_reader import typed

from netadapt.report import amounts
from netadapt.report.canvas import NARROW, WIDE, Canvas
from netadapt.report.drawing import TOKENS, Sheet, colour, svg_of
from netadapt.report.figures.agreement import Pairs
from netadapt.report.figures.layers import Layer, pair, rows
from netadapt.report.figures.proposals import Candidate, Path, Step, hidden_below
from netadapt.report.figures.tradeoff import Network, means
from netadapt.report.figures.widths import WidthHistory, draw
from netadapt.report.pictures import natural_order
from netadapt.results.pareto import pareto_front


def test_errors_of_the_table_are_relative_to_what_was_measured() -> None:
    pairs = Pairs("networks", ((109.0, 100.0), (190.0, 200.0), (232.0, 200.0)))
    assert pairs.errors == pytest.approx([0.09, -0.05, 0.16])
    assert pairs.bias == pytest.approx(0.2 / 3)
    assert pairs.mape == pytest.approx(0.1)
    assert pairs.within_band == pytest.approx(2 / 3)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    networks = [
        Network("multiplier", "0.5x", 100, 0.80),
        Network("multiplier", "0.5x", 120, 0.90),  # another seed
        Network("multiplier", "1x", 200, 0.92),
        Network("netadapt-latency", "0.5x", 110, 0.85),  # as fast and accurate as the first mean
        Network("uniform", "0.6x", 150, 0.84),  # beaten by both
    ]
    averaged = means(networks)
    assert [(mean.arm, mean.label, mean.latency_ns, mean.networks) for mean in averaged] == [
        ("multiplier", "0.5x", 110, 2),
        ("multiplier", "1x", 200, 1),
        ("uniform", "0.6x", 150, 1),
        ("netadapt-latency", "0.5x", 110, 1),
    ]
    assert [(mean.label, mean.accuracy) for mean in pareto_front(averaged)] == [
        ("0.5x", pytest.approx(0.85)),
        ("1x", pytest.approx(0.92)),
    ]


def test_small_neighbours_share_a_row_only_in_long_networks() -> None:
    small = Layer("add 8->8 4x4", "add 8->8 4x4", 1.0, 0.5)
    large = Layer("conv 8->8 4x4 k3x3 s1", "conv 8->4 4x4 k3x3 s1", 100.0, 60.0)
    assert [row.layers for row in rows([large, small, small])] == [1, 1, 1]
    found = rows([large, small, small, small, large, small] + [large] * 12)
    assert [row.layers for row in found[:4]] == [1, 3, 1, 1]
    assert (found[1].before_ns, found[1].after_ns) == (3.0, 1.5)
    assert typed(found[1].title) == "3 layers below 2 % each"
    assert sum(row.before_ns for row in found) == 14 * 100.0 + 4 * 1.0


def test_a_layer_is_named_with_its_channels_before_and_now() -> None:
    changed, same = pair(
        [("conv 32->64 8x8 k1x1 s1 relu", 2.0), ("add 8+8->8 4x4", 1.0)],
        [("conv 16->48 8x8 k1x1 s1 relu", 1.0), ("add 8+8->8 4x4", 1.0)],
    )
    assert changed.title == "conv 8x8 k1x1, 32→64, now 16→48"
    assert same.title == "add 4x4, 8+8→8"
    assert Layer("odd", "odd", 1, 1).title == "odd"


def test_proposals_that_destroy_the_network_do_not_press_the_others_into_a_line() -> None:
    good = tuple(Candidate(90, 0.93 + 0.001 * index) for index in range(11))
    path = Path(Candidate(100, 0.94), (Step((*good, Candidate(90, 0.1)), Candidate(90, 0.941)),), "ns", "latency")
    floor, below = hidden_below(path)
    assert below == 1
    assert 0.1 < floor <= 0.93
    calm = Path(Candidate(100, 0.94), (Step((Candidate(90, 0.935),), Candidate(90, 0.939)),), "ns", "latency")
    assert hidden_below(calm)[1] == 0


def test_groups_come_in_the_order_of_execution() -> None:
    names = ["features.10.1.0", "features.2.1.0", "classifier", "features.2.0.3"]
    assert sorted(names, key=natural_order) == ["classifier", "features.2.0.3", "features.2.1.0", "features.10.1.0"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (123_456.0, "ns", "123 µs"),
        (1_234_567.0, "ns", "1.23 ms"),
        (12.0, "ns", "12.0 ns"),
        (0.0, "ns", "0 ns"),
        (4_200_000, "pJ", "4.20 µJ"),
        (0.1234, "share", "12.34 %"),
        (-0.01, "share", "-1.00 %"),
        (1.666, "ratio", "1.67x"),
        (667.0, "count", "667"),
        (6_000.0, "count", "6,000"),
        (2.5, "s", "2.50 s"),
        (0.0335, "s", "33.5 ms"),
        (3 * 2**20, "bytes", "3.00 MiB"),
    ],
)
def test_amounts_are_scaled_and_keep_three_digits(value: float, unit: str, text: str) -> None:
    assert typed(amounts.quantity(value, unit)) == text


# --- colours ---


def _scheme(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))


def _luminance(code: str) -> float:
    channels = [int(code[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_the_palette_has_every_colour_in_both_schemes_with_enough_contrast(dark: bool) -> None:
    palette = resources.files("netadapt.report").joinpath("palette.css").read_text()
    scheme = _scheme(palette.split("@media")[dark])
    assert set(TOKENS) <= scheme.keys()
    for text in ("ink", "muted", "warn", "green", "blue"):
        assert _contrast(scheme[text], scheme["paper"]) >= 4.5
    for series in ("blue", "vermilion", "green", "purple", "ochre", "grey"):
        assert _contrast(scheme[series], scheme["paper"]) >= 3
    for step in range(8):
        assert _contrast(scheme[f"heat{step}-text"], scheme[f"heat{step}"]) >= 4.5


@pytest.mark.parametrize("canvas", [WIDE, NARROW])
def test_svg_has_no_colour_font_or_identifier_of_matplotlibs_own(canvas: Canvas) -> None:
    from xml.etree import ElementTree

    history = WidthHistory((("features.0", (16, 8, 8)), ("a.very.long.name.of.a.group.in.a.network", (32, 32, 4))))
    element = svg_of(lambda paper: draw(history, paper), canvas, "widths", "Widths", "All of them")
    text = ElementTree.tostring(element, encoding="unicode")
    assert not re.search(r"#[0-9a-f]{6}\b", text)
    assert "DejaVu" not in text
    assert all(name.startswith("widths-") for name in re.findall(r'\bid="([^"]+)"', text))
    assert [child.tag for child in element[:2]] == ["title", "desc"]
    assert element.attrib["viewBox"].startswith(f"0 0 {canvas.width} ")


def test_dollars_are_no_formula_and_the_users_settings_do_not_matter() -> None:
    from xml.etree import ElementTree

    import matplotlib

    def paint(canvas: Canvas) -> Sheet:
        sheet = Sheet(canvas, 50)
        sheet.text(10, 20, "$x^2$", color=colour("ink"))
        return sheet

    def drawn() -> str:
        return ElementTree.tostring(svg_of(paint, WIDE, "n", "t", "d"), encoding="unicode")

    plain = drawn()
    assert "$x^2$" in plain
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        assert drawn() == plain
        assert matplotlib.rcParams["svg.fonttype"] == "path"
