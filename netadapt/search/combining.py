"""Several groups narrowed at once: which, and whether what they cost together is what they cost one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netadapt.search.budget import Resources
from netadapt.search.image_results import difference
from netadapt.search.metrics import Metric
from netadapt.search.outcome import State
from netadapt.search.proposals import Proposal, largest_meeting, meets, predict
from netadapt.train.task import ImageResults

#: Hold-out loss (nats) that a joint network may have beyond what its parts add up to.
_HARDLY = 0.02


def combine(
    ranked: Sequence[Proposal],
    state: State,
    limits: Resources,
    metrics: Sequence[Metric],
    allowed: Mapping[str, Sequence[int]],
) -> Proposal:
    """The first of the proposals together: as few as meet the limits, all if they do not.

    The last group that is needed is narrowed no further than the limits ask for.
    """
    widths = dict(state.widths)
    groups: list[str] = []
    for proposal in ranked:
        group = proposal.group
        groups.append(group)
        widths[group] = proposal.widths[group]
        if meets(predict(metrics, widths), limits):
            widths[group] = _widest(group, widths, state, limits, metrics, allowed)
            break
    return Proposal(state.iteration, " + ".join(groups), widths, predict(metrics, widths))


def hardly_interact(base: ImageResults, joint: ImageResults, parts: Sequence[ImageResults]) -> bool:
    """Whether the joint network loses about what its parts lose alone; all on the same images, without training.

    Fine-tunes would hide who does what: they bring most of it back.
    """
    alone = base.losses + sum((part.losses - base.losses for part in parts), start=0 * base.losses)
    return difference(joint.losses, alone).mean <= _HARDLY


def _widest(
    group: str,
    widths: Mapping[str, int],
    state: State,
    limits: Resources,
    metrics: Sequence[Metric],
    allowed: Mapping[str, Sequence[int]],
) -> int:
    """The largest width of a group with which the others, as they are, still meet the limits."""
    choices = [width for width in reversed(allowed[group]) if widths[group] <= width < state.widths[group]]
    search = largest_meeting(choices)
    width = next(search)
    while True:
        try:
            width = search.send(meets(predict(metrics, {**widths, group: width}), limits))
        except StopIteration as found:
            return int(found.value)
