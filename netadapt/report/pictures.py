"""The pictures of a report, with the words that go with them; runs and benchmark results share them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from netadapt.report import amounts
from netadapt.report.content import Origin, Picture
from netadapt.report.figures import agreement, layers, proposals, tradeoff, widths
from netadapt.results.pareto import pareto_front
from netadapt.wording import counted


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts names of groups as networks execute them: features.2 before features.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def agreement_picture(name: str, network: str, shown: agreement.Agreement, origin: Origin) -> Picture:
    """Estimated against measured latency."""
    random = shown.random
    floor = ""
    if shown.noise and shown.noise.pairs:
        floor = f"; measuring one network twice differs by {amounts.percent(shown.noise.mape)}"
    unit = amounts.scale_for([measured for _, measured in random.pairs], "ns").unit
    return Picture(
        name=name,
        title="Estimated against measured latency",
        description=(
            f"Latency of networks of {network} as the look-up table estimates it, against their measured latency. "
            f"{amounts.percent(random.within_band, 0)} of the random networks lie within 10 %."
        ),
        caption=(
            f"The table is off by {amounts.percent(random.mape)} on average (MAPE), with a bias of "
            f"{amounts.change(random.bias)}, on {len(random.pairs)} random-width networks of {network} that it has "
            f"never seen{floor}."
        ),
        unit=f"latency in {unit}, estimated and measured",
        origin=origin,
        draw=lambda canvas: agreement.draw(shown, canvas),
    )


def tradeoff_picture(
    name: str, networks: Sequence[tradeoff.Network], described: str, seeds: int, origin: Origin
) -> Picture:
    """Accuracy against latency of all arms; `described` says what the networks are."""
    front = pareto_front(tradeoff.means(networks))
    arms = list(dict.fromkeys(tradeoff.ARM_TITLES[point.arm] for point in front))
    unit = amounts.scale_for([network.latency_ns for network in networks], "ns").unit
    return Picture(
        name=name,
        title="Accuracy against latency of all arms",
        description=(
            f"Test accuracy against measured latency of {len(networks)} {described}. On the Pareto front, from fast to "
            f"accurate: {', '.join(arms)}."
        ),
        caption=(
            f"{len(networks)} {described}; faint points are single seeds (there are {seeds}), lines join their means, "
            "and nothing is both faster and more accurate than the front."
        ),
        unit=f"latency in {unit}, measured; accuracy evaluated on the test split",
        origin=origin,
        draw=lambda canvas: tradeoff.draw(networks, canvas),
    )


def widths_picture(
    name: str, original: Mapping[str, int], accepted: Sequence[Mapping[str, int]], of_run: str, origin: Origin
) -> Picture:
    """Widths of all groups over the iterations; `of_run` says which run it is, or is empty."""
    groups = sorted(original, key=natural_order)
    history = widths.WidthHistory(
        tuple((group, (original[group], *(entry[group] for entry in accepted))) for group in groups)
    )
    narrowed = sum(series[-1] < series[0] for _, series in history.groups)
    return Picture(
        name=name,
        title="Widths over the iterations",
        description=(
            f"Channels of {counted(len(groups), 'channel group')} in order of execution after each of "
            f"{counted(len(accepted), 'iteration')}; "
            f"{counted(narrowed, 'group')} narrowed."
        ),
        caption=(
            f"{narrowed} of {len(groups)} channel groups, input first, gave up channels{of_run}; numbers are channels, "
            "the fainter the block, the smaller the share of its channels that is left."
        ),
        unit="channels, counted",
        origin=origin,
        draw=lambda canvas: widths.draw(history, canvas),
    )


def proposals_picture(name: str, path: proposals.Path, of_run: str, origin: Origin) -> Picture:
    """What the search could choose from, and what it chose."""
    accepted = len(path.accepted) - 1
    count = accepted + sum(len(step.proposals) for step in path.steps)
    _, below = proposals.hidden_below(path)
    hidden = f" Of less accuracy, at the lower edge: {counted(below, 'proposal')}." if below else ""
    unit = amounts.scale_for([path.original.cost], path.unit).unit
    return Picture(
        name=name,
        title="Proposals of each iteration",
        description=(
            f"Hold-out accuracy against predicted {path.cost_name} of {counted(count, 'proposal')}, and of the "
            f"accepted ones, one after another: {counted(accepted, 'network')}."
        ),
        caption=(
            f"From the original network on, each step goes to one of the proposals that hang on it{of_run}: hold-out "
            f"accuracy of {counted(count, 'proposal')} after their short fine-tune, against predicted "
            f"{path.cost_name}.{hidden}"
        ),
        unit=f"{path.cost_name} in {unit}, predicted; accuracy evaluated on the hold-out split",
        origin=origin,
        draw=lambda canvas: proposals.draw(path, canvas),
    )


def layers_picture(name: str, pairs: Sequence[layers.Layer], origin: Origin) -> Picture:
    """Where time goes before and after."""
    before, after = sum(pair.before_ns for pair in pairs), sum(pair.after_ns for pair in pairs)
    scale = amounts.scale_for([pair.before_ns for pair in pairs], "ns")
    most = max(pairs, key=lambda pair: pair.before_ns - pair.after_ns)
    folded = any(row.layers > 1 for row in layers.rows(pairs))
    share = f"{amounts.percent(after / before, 0)} of their time before" if before else f"{scale.text(after)} now"
    return Picture(
        name=name,
        title="Time of each layer, before and after",
        description=(
            f"Latency by the table of {len(pairs)} layers of the original and of the adapted network, in order of "
            f"execution: {scale.text(before)} in all before, {scale.text(after)} after."
        ),
        caption=(
            f"All {len(pairs)} layers together, in order of execution, take {share}; the most, "
            f"{scale.text(most.before_ns - most.after_ns)}, is saved by {most.before}."
            + (" Neighbouring small layers share a pair of bars." if folded else "")
        ),
        unit=f"latency in {scale.unit}, by the table",
        origin=origin,
        draw=lambda canvas: layers.draw(pairs, canvas),
    )
