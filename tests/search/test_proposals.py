import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from netadapt.search.proposals import largest_meeting, propose


@dataclass
class Weighted:
    """A made-up metric: the sum of the widths, each times its weight."""

    name: str
    weights: Mapping[str, int]
    prepared: list[int] = field(default_factory=list)

    def predict(self, widths: Mapping[str, int]) -> float:
        return sum(self.weights[group] * width for group, width in widths.items())

    def prepare(self, candidates: Sequence[Mapping[str, int]]) -> None:
        self.prepared.append(len(candidates))


def run_search(widths: Sequence[int], meets: int) -> tuple[int | None, list[int]]:
    """Search for the largest width up to `meets`; gives it and the widths tried."""
    search = largest_meeting(widths)
    tried: list[int] = []
    try:
        width = next(search)
        while True:
            tried.append(width)
            width = search.send(width <= meets)
    except StopIteration as result:
        return result.value, tried


@given(st.lists(st.integers(1, 10_000), unique=True, max_size=200), st.integers(0, 10_001))
def test_the_largest_width_that_meets_is_found_in_few_tries(choices: list[int], meets: int) -> None:
    descending = sorted(choices, reverse=True)
    found, tried = run_search(descending, meets)
    assert found == next((width for width in descending if width <= meets), None)
    assert len(tried) == len(set(tried))
    assert len(tried) <= 2 * math.log2(len(descending) + 1) + 2


def test_tries_stay_near_the_current_width() -> None:
    # 15 is the second of the widths below 17: only three of them are tried, none of the small ones.
    assert run_search(list(range(16, 0, -1)), meets=15) == (15, [16, 15])
    assert run_search(list(range(16, 0, -1)), meets=13) == (13, [16, 15, 13, 14])


def test_each_group_gets_the_largest_width_that_meets_every_limit() -> None:
    metric = Weighted("macs", {"a": 1, "b": 10, "c": 100})
    other = Weighted("params", {"a": 10, "b": 1, "c": 1})
    widths = {"a": 8, "b": 8, "c": 8}  # macs 888, params 96
    allowed = {"a": [2, 4, 6, 8], "b": [2, 4, 6, 8], "c": [2, 4, 6, 8]}
    proposals = propose(3, widths, {"macs": 850.0, "params": 95.0}, [metric, other], allowed)
    # a: even 2 leaves 882 macs: skipped. b: 4 gives 848 macs, 92 params. c: 6 gives 688 macs, 94 params.
    assert [(proposal.iteration, proposal.group, proposal.widths) for proposal in proposals] == [
        (3, "b", {"a": 8, "b": 4, "c": 8}),
        (3, "c", {"a": 8, "b": 8, "c": 6}),
    ]
    assert proposals[0].resources == {"macs": 848, "params": 92}


def test_groups_are_tried_side_by_side_and_only_limited_metrics_are_asked() -> None:
    limited, unlimited = Weighted("macs", {"a": 1, "b": 1}), Weighted("latency", {"a": 1, "b": 1})
    propose(0, {"a": 8, "b": 8}, {"macs": 14.0}, [limited, unlimited], {"a": [2, 4, 6, 8], "b": [2, 4, 6, 8]})
    assert limited.prepared == [2]
    assert unlimited.prepared == []


def test_a_group_at_its_narrowest_is_left_alone() -> None:
    metric = Weighted("macs", {"a": 1, "b": 1})
    proposals = propose(0, {"a": 2, "b": 8}, {"macs": 9.0}, [metric], {"a": [2, 4], "b": [4, 8]})
    assert [proposal.group for proposal in proposals] == ["b"]
