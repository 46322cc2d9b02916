from pathlib import Path

import torch

from netadapt.search.combining import combine, hardly_interact
from netadapt.search.metrics import Counted
from netadapt.search.outcome import State
from netadapt.search.proposals import Proposal
from netadapt.train.task import ImageResults

#: A chain of layers: what it costs is the product of neighbours.
WIDTHS = {"a": 10, "b": 10, "c": 10}
COST = Counted("macs", lambda widths: widths["a"] * widths["b"] + widths["b"] * widths["c"])
STATE = State(2, WIDTHS, {"macs": 200.0}, 0.9, 0.3, Path("weights"))
ALLOWED = {group: tuple(range(1, 11)) for group in WIDTHS}


def proposal(group: str, width: int) -> Proposal:
    widths = {**WIDTHS, group: width}
    return Proposal(2, group, widths, {"macs": COST.predict(widths)})


RANKED = [proposal("c", 8), proposal("a", 8), proposal("b", 9)]


def join(limit: float) -> Proposal:
    return combine(RANKED, STATE, {"macs": limit}, [COST], ALLOWED)


def test_as_many_are_joined_as_the_limit_asks_for() -> None:
    # c at 8: 100 + 80 = 180; a at 8 too: 80 + 80 = 160; b at 9 too: 72 + 72 = 144.
    assert join(180).group == "c"
    assert join(160) == Proposal(2, "c + a", {"a": 8, "b": 10, "c": 8}, {"macs": 160.0})
    assert join(144).group == "c + a + b"


def test_the_last_is_narrowed_no_further_than_needed() -> None:
    assert join(170).widths == {"a": 9, "b": 10, "c": 8}
    assert join(190).widths == {"a": 10, "b": 10, "c": 9}


def test_all_are_joined_if_they_do_not_do() -> None:
    assert join(100).widths == {"a": 8, "b": 9, "c": 8}


def results(loss: float) -> ImageResults:
    return ImageResults(torch.ones(100), torch.full((100,), loss))


def test_parts_hardly_interact_when_their_losses_add_up() -> None:
    base, parts = results(0.30), [results(0.32), results(0.35)]
    # 0.30 + 0.02 + 0.05 is what they lose alone.
    assert hardly_interact(base, results(0.385), parts)
    assert hardly_interact(base, results(0.30), parts)
    assert not hardly_interact(base, results(0.395), parts)
