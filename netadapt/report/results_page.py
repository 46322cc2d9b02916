"""The report of benchmark results: a section for each platform, as two platforms never share a figure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from netadapt.measure.measurement import DOUBTFUL
from netadapt.report import amounts
from netadapt.report.amounts import NONE
from netadapt.report.case_sections import case_section
from netadapt.report.content import Facts, Headline, Origin, Page, Remark, Section, present
from netadapt.report.drawing import shortened
from netadapt.report.results_folder import Found, PlatformResults
from netadapt.results.schema import Figure

#: What a runtime is called, and the facts of the environment of which one is its version.
_RUNTIMES = {
    "ort": ("ONNX Runtime", ("platform version", "platform onnxruntime")),
    "tvm": ("TVM", ("platform apache-tvm",)),
    "ncnn": ("ncnn", ("platform version", "platform ncnn")),
}
#: Letters of a version or digest that are shown.
_LONGEST_FACT = 24


def results_page(platforms: list[PlatformResults], source: Path) -> Page:
    """The page of what was read from `source`."""
    names = [platform.name for platform in platforms]
    profiles = sorted({found.file.profile for platform in platforms for found in platform.all})
    tiers = {found.file.tier for platform in platforms for found in platform.by_platform.values()}
    return Page(
        title=f"Benchmark results: {', '.join(names)}"
        if len(names) < 3
        else f"Benchmark results of {len(names)} platforms",
        kicker="netadapt benchmark suite",
        lead=(
            "How well the look-up table predicts the device, what a proposal costs, and how much faster adapted "
            "networks run than what one would use instead. Each number carries its tier."
        ),
        command="\n".join(_command(names, profile) for profile in profiles),
        tier=next(iter(tiers)) if len(tiers) == 1 else "",
        headlines=_headlines(platforms[0]) if len(platforms) == 1 else (),
        sections=tuple(_platform_section(platform, alone=len(platforms) == 1) for platform in platforms),
    )


def _command(platforms: list[str], profile: str) -> str:
    return f"pytest --benchmark --profile {profile} " + " ".join(f"--platform {name}" for name in platforms)


def _platform_section(platform: PlatformResults, alone: bool) -> Section:
    cases = [*_sections(platform, platform.by_platform.values(), "platform")]
    hosts = [*_sections(platform, platform.by_host.values(), "host")]
    return Section(
        id=f"platform-{slug(platform.name)}",
        title=platform.name,
        blocks=present([_doubts(platform), _card(platform)]),
        headlines=() if alone else _headlines(platform),
        sections=tuple(cases + hosts),
    )


def _sections(platform: PlatformResults, cases: Iterable[Found], clock: str) -> Iterable[Section]:
    order = ("end_to_end_speedup", "lut_accuracy", "proposal_latency", "ablations", "search_cost")
    rank = {case_id: index for index, case_id in enumerate(order)}
    for found in sorted(cases, key=lambda found: (rank.get(found.case.id, len(rank)), found.case.id)):
        yield case_section(found, origin_of(platform, found), f"{slug(platform.name)}-{clock}")


def origin_of(platform: PlatformResults, found: Found) -> Origin:
    """Where the numbers of a case come from."""
    file = found.file
    host = file.clock == "host"
    return Origin(
        tier=file.tier,
        platform="" if host else file.platform,
        requested="" if host else file.requested,
        runtime="" if host else _runtime(platform, file.environment),
        commit=file.made.commit or f"none, netadapt {file.made.netadapt}",
        date=file.made.date,
        remarks=(
            *(["clock of the machine that did the work"] if host else []),
            f"profile {file.profile}",
            f"case version {found.case.version}",
        ),
    )


def _runtime(platform: PlatformResults, environment: dict[str, str]) -> str:
    """The platform's runtime with its version, as far as card and environment tell."""
    definition = platform.card.definition if platform.card else {}
    runtime = definition.get("runtime")
    name = str(runtime.get("name", "")) if isinstance(runtime, dict) else ""
    title, keys = _RUNTIMES.get(name, (name, ()))
    version = next((environment[key] for key in keys if key in environment), "")
    return f"{title} {version}".strip()


def _doubts(platform: PlatformResults) -> Remark | None:
    """Names the figures that the machine was too busy for."""
    doubtful = [
        f"{name.replace('_', ' ')} of {found.case.id} ({figure.status})"
        for found in platform.all
        for name, figure in found.case.figures.items()
        if figure.status in DOUBTFUL
    ]
    return Remark(f"Not to be relied on: {', '.join(doubtful)}.", "warn") if doubtful else None


def _card(platform: PlatformResults) -> Facts:
    card = platform.card
    rows = [("platform", platform.name)]
    if card:
        rows += [("title", card.title), ("tier", card.tier), ("fingerprint", card.fingerprint)]
    environment: dict[str, str] = {}
    for found in platform.by_platform.values():
        environment |= found.file.environment
    rows.append(("runtime", _runtime(platform, environment)))
    rows.append(("decided by", ", ".join(_fact(name, value) for name, value in sorted(environment.items()))))
    rows.append(
        ("runs shown", "; ".join(sorted({f"{found.path.name} ({found.file.profile})" for found in platform.all})))
    )
    prose = str(card.definition.get("card", "")) if card else "There is no platform.json beside these results."
    return Facts(f"Platform card of {platform.name}", tuple((name, value) for name, value in rows if value), prose)


def _fact(name: str, value: str) -> str:
    return f"{name.removeprefix('platform ')} {shortened(value, _LONGEST_FACT)}"


def _headlines(platform: PlatformResults) -> tuple[Headline, ...]:
    """What the suite is for: the speed-up, what it cost in accuracy, and how far the table was off."""
    found: list[Headline | None] = []
    if speedup := platform.by_platform.get("end_to_end_speedup"):
        figures = speedup.case.figures
        found += [
            _figure_headline(
                "speed-up over multipliers",
                figures.get("speedup_over_multipliers"),
                "width multipliers of equal or higher test accuracy",
            ),
            _figure_headline(
                "speed-up over the original", figures.get("speedup_over_original"), "of its fastest network"
            ),
            _accuracy_headline(figures),
        ]
    if accuracy := platform.by_platform.get("lut_accuracy"):
        found.append(_prediction_headline(accuracy))
    return tuple(headline for headline in found if headline)


def _figure_headline(label: str, figure: Figure | None, meaning: str) -> Headline | None:
    if figure is None:
        return None
    interval = "no interval: too few seeds"
    if figure.low is not None and figure.high is not None:
        interval = f"95 % interval {amounts.quantity_range(figure.low, figure.high, figure.unit)}"
    tone = "warn" if figure.status in DOUBTFUL else ""
    status = f"; {figure.status}" if figure.status != "converged" else ""
    return Headline(label, amounts.quantity(figure.value, figure.unit), f"{meaning}; {interval}{status}", tone)


def _accuracy_headline(figures: dict[str, Figure]) -> Headline | None:
    before, after = figures.get("original_test_accuracy"), figures.get("netadapt_latency_test_accuracy")
    if before is None or after is None:
        return None
    return Headline(
        "test accuracy",
        amounts.percent(after.value, 2),
        f"{amounts.points(after.value - before.value)} against the original's {amounts.percent(before.value, 2)}; "
        "mean of all networks of NetAdapt by latency",
    )


def _prediction_headline(found: Found) -> Headline | None:
    from netadapt.report.case_data import LutAccuracy, data_of

    networks = data_of(found.case, LutAccuracy, found.path).networks
    if not networks:
        return None
    errors = [network.predicted_ns / network.measured_ns - 1 for network in networks]
    mape, bias = sum(map(abs, errors)) / len(errors), sum(errors) / len(errors)
    return Headline(
        "prediction off by",
        amounts.percent(mape),
        f"mean error of {len(errors)} random networks; bias {amounts.change(bias)}, "
        f"worst {amounts.percent(max(map(abs, errors)))}",
    )


def slug(name: str) -> str:
    """A name as part of an identifier."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name) or NONE
