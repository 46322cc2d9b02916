import io
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn

from netadapt.search.outcome import Look, Outcome, State
from netadapt.search.proposals import Proposal
from netadapt.terminal import LiveProgress

STATE = State(0, {"a": 8, "b": 8}, {"macs": 100.0}, 0.5, 1.0, Path("weights"))


def outcome(group: str, score: float, dropped: str = "") -> Outcome:
    return Outcome(Proposal(0, group, {"a": 8, "b": 8}, {"macs": 90.0}), Look(1), score, 1.0, 1.0, Path(group), dropped)


def test_the_best_proposal_is_the_one_of_highest_score() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(TextColumn("{task.description}"), console=console) as bars:
        progress = LiveProgress(bars)
        proposals = [outcome(group, 0.0).proposal for group in "abcd"]
        progress.iteration(STATE, {"macs": 90.0}, proposals, iterations=2)
        shown = []
        # As texts, 9 % would come after 94 %, and 94 % after 100 %.
        for done, made in enumerate(
            [outcome("d", 0.0, dropped="NaN"), outcome("a", 0.09), outcome("b", 0.94), outcome("c", 1.0)], start=1
        ):
            progress.proposal(made, done, 4)
            shown.append(bars.tasks[0].description.partition("best ")[2])
    assert shown == ["none yet", "9.00% with a", "94.00% with b", "100.00% with c"]
    assert "proposal d dropped: NaN" in console.file.getvalue()  # type: ignore[attr-defined]
