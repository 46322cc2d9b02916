from pathlib import Path

import pytest

from netadapt.errors import UnknownNameError
from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.search.selection import least_lost_per_saving, most_accurate, saving, selection_rule

ORIGINAL = {"macs": 100.0}
STATE = State(1, {"a": 8}, {"macs": 90.0}, score=0.90, loss=0.3, weights=Path("source"))


def outcome(group: str, score: float, macs: float, loss: float = 0.3) -> Outcome:
    return Outcome(Proposal(1, group, {"a": 8}, {"macs": macs}), Look(1), score, loss, 1.0, Path(group))


def chosen(rule: str, *outcomes: Outcome) -> str:
    return selection_rule(rule)(outcomes, STATE, ORIGINAL).proposal.group


def test_accuracy_takes_the_highest_score() -> None:
    assert chosen("accuracy", outcome("a", 0.88, 50), outcome("b", 0.89, 85)) == "b"


def test_equal_scores_are_decided_by_loss_then_by_saving() -> None:
    assert chosen("accuracy", outcome("a", 0.9, 50, loss=0.4), outcome("b", 0.9, 85, loss=0.3)) == "b"
    assert chosen("accuracy", outcome("a", 0.9, 85), outcome("b", 0.9, 80)) == "b"


def test_ratio_takes_the_least_score_lost_for_what_is_saved() -> None:
    # a loses 0.02 for 40 %: 0.05; b loses 0.01 for 5 %: 0.2.
    assert chosen("ratio", outcome("a", 0.88, 50), outcome("b", 0.89, 85)) == "a"
    # b loses 0.01 for 30 %: 0.033 beats a.
    assert chosen("ratio", outcome("a", 0.88, 50), outcome("b", 0.89, 60)) == "b"


def test_ratio_stays_sane_when_the_score_rises() -> None:
    # Both gain the same: the larger saving wins, although gain divided by saving is smaller.
    assert chosen("ratio", outcome("a", 0.91, 85), outcome("b", 0.91, 60)) == "b"
    # A gain beats a loss however much that would save.
    assert chosen("ratio", outcome("a", 0.901, 85), outcome("b", 0.899, 1)) == "a"
    # Nothing lost: the larger saving wins.
    assert chosen("ratio", outcome("a", 0.90, 85), outcome("b", 0.90, 80)) == "b"


def test_savings_of_several_metrics_are_averaged_relative_to_the_original() -> None:
    state = State(0, {}, {"macs": 100.0, "latency": 10.0}, 0.9, 0.3, Path("source"))
    made = Outcome(Proposal(0, "a", {}, {"macs": 80.0, "latency": 9.0}), Look(1), 0.9, 0.3, 1.0, Path("a"))
    assert saving(made, state, {"macs": 100.0, "latency": 10.0}) == pytest.approx((0.2 + 0.1) / 2)


def test_rules_are_found_by_name() -> None:
    assert selection_rule("accuracy") is most_accurate
    assert selection_rule("ratio") is least_lost_per_saving
    with pytest.raises(UnknownNameError, match="accuracy, ratio"):
        selection_rule("luck")
