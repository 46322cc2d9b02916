"""A search that ends when its budgets are met as measured: predictions that were too low are corrected meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from netadapt.lut.estimator import Correction, Estimator
from netadapt.search.algorithm import Search
from netadapt.search.judging import Judge, Judgement, excesses
from netadapt.search.observer import Observer
from netadapt.search.outcome import State
from netadapt.search.proposals import predict
from netadapt.search.run import RunFolder

#: How often a search goes on at most. What is left then is what no prediction gets right.
MOST_CORRECTIONS = 3


@dataclass(frozen=True)
class MeasuredSearch:
    """Runs a search, measures the network that it ends with, and goes on while that costs more than predicted."""

    search: Search
    judge: Judge
    estimators: Mapping[str, Estimator]
    folder: RunFolder
    observer: Observer

    def run(self) -> tuple[State, str]:
        """The last network, and why the search ended above its predicted budget if it did.

        Raises:
            ModelError, MeasurementError, TableError, RunError: measuring or writing failed; the run can be resumed.

        """
        state, stopped = self.search.run()
        while not stopped and self._is_corrected(state):
            state, stopped = self.search.run()
        return state, stopped

    def _is_corrected(self, state: State) -> bool:
        """Whether the prediction of a network within its predicted budget was corrected, so that it no longer is."""
        if not self.estimators:
            return False
        if len(self.folder.all("corrected")) >= MOST_CORRECTIONS:
            return False
        self.observer.stage("measuring the network that the search has come to")
        judgements = self.judge.judge(state)
        above = excesses(judgements)
        if not above:
            return False
        for metric, excess in above.items():
            estimator = self.estimators[metric]
            factor = excess * self.search.schedule.budget[metric] / state.resources[metric]
            estimator.correction = _scaled(estimator.correction, factor)
        resources = predict(self.search.metrics, state.widths)
        self.folder.record(
            "corrected",
            iteration=state.iteration,
            corrections={metric: asdict(self.estimators[metric].correction) for metric in above},
            resources=resources,
        )
        self.observer.note(_going_on(judgements))
        return True


def apply_corrections(folder: RunFolder, estimators: Mapping[str, Estimator]) -> None:
    """Give estimators the corrections that a run has journalled, the newest of each metric."""
    for event in (*folder.all("started"), *folder.all("corrected")):
        for metric, correction in event["corrections"].items():
            if metric in estimators:
                estimators[metric].correction = Correction(**correction)


def _scaled(correction: Correction, factor: float) -> Correction:
    return replace(
        correction,
        scale=correction.scale * factor,
        offset=correction.offset * factor,
        networks=correction.networks + 1,
    )


def _going_on(judgements: Sequence[Judgement]) -> str:
    above = [
        f"{judgement.metric} was measured at {judgement.value / judgement.allowed:.1%} of its budget"
        f"{'' if judgement.verdict == 'not met' else ', too near to be sure'}"
        for judgement in judgements
        if judgement.excess > 1
    ]
    return f"{'; '.join(above)}: predictions are corrected by that, and the search goes on"
