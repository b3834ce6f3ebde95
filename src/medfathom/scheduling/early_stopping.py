"""Early stopping (`study.stopping`) as one Tune scheduler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from medfathom.definitions.config import StudyConfig
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import METRIC, TIME, Failure, Lost
from medfathom.scheduling.stall import error_of, raised_while_made, why_lost
from medfathom.study.assignment import Assignment
from medfathom.study.stopping import Stopping

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class StratifiedScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Tells Tune which trials to stop.

    After a stop, and after a worker's death without a checkpoint, Tune tells epochs again: they count once.

    Attributes:
        stopping: what is known of the trials, and the rule.
    """

    def __init__(self, config: StudyConfig, lost: dict[str, Lost], past: Iterable[FrozenTrial]) -> None:
        """`lost` takes the reasons of worker failures, by Tune's trial id; `past` are trials that ended."""
        super().__init__()
        self.stopping = Stopping(config, past)
        self._epochs = config.budget.epochs
        self._lost = lost
        self._added: list[Any] = []

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The metric is fixed."""
        return True

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return METRIC

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Learn what is known already of a trial that goes on (Tune also adds a lost one again)."""
        assignment = _assignment(trial)
        self.stopping.learn(assignment.stratum, assignment.number, assignment.reported)
        self._added.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The latest trial that waits for a worker: a worker that has become free takes this one.

        Tune gives a free worker to a waiting trial, and gives up the new worker that was on its way for it.
        Where the oldest came first, trials that are over before a worker has started (a few seconds) would
        all be run by the first one, one after another, and workers be started in vain. A late node, too,
        would never get a trial.
        """
        while self._added and self._added[-1].status != Trial.PENDING:
            self._added.pop()
        return self._added[-1] if self._added else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision on an epoch; a failure tells none, and a protected trial has its first fold."""
        assignment, stops = _assignment(trial), False
        failure: Failure | None = result.get("failure")
        if failure is not None and failure.node:  # should its worker die, Tune would begin the trial again
            trial.config["order"] = replace(trial.config["order"], over=True)
        if METRIC in result:
            stops = self.stopping.stops(
                assignment.stratum, assignment.number, int(result[TIME]), float(result[METRIC])
            )
            stops = stops and not (assignment.protected and int(result[TIME]) < self._epochs)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Learn the last epoch."""
        if METRIC in result:
            assignment, told = _assignment(trial), {int(result[TIME]): float(result[METRIC])}
            self.stopping.learn(assignment.stratum, assignment.number, told)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the reason for the driver: the searcher is only told that there was an error."""
        error = error_of(trial)
        reason = f"the worker was lost ({why_lost(error)})" if error else "the worker was lost"
        began = trial.status != trial.PENDING and not raised_while_made(error)
        self._lost[trial.trial_id] = Lost(reason, began)

    def debug_string(self) -> str:
        """What Tune may print."""
        return f"{sum(map(len, self.stopping.curves.values()))} trials known"


def _assignment(trial: Any) -> Assignment:
    """The trial as the driver knows it, by its number: one that is begun again has another id in Tune."""
    assignment: Assignment = trial.config["order"].assignment
    return assignment
