"""Early stopping: which trials go no further, judged by the epochs of the others.

A rule is a plain function of what is known of the trials. It decides as Ray Tune's own scheduler of that name
does, and needs nothing but the epochs: so a study that is taken up again goes on as if never interrupted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from medfathom.definitions.config import SchedulerConfig, StudyConfig
from medfathom.errors import DefinitionError, did_you_mean
from medfathom.scheduling.between_folds import stops_between_folds
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import METRIC, TIME
from medfathom.study.driver import Assignment

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Curves = Mapping[int, Mapping[int, float]]
"""Trial number -> epoch -> validation AUC. Epochs count from 1, in order, without gaps."""

Rule = Callable[[Curves, int, int], bool]
"""Whether a trial (its number) is stopped after an epoch. The curves hold that epoch already."""

HYPERBAND_BRACKETS = 3

MEDIAN_NEEDS = 3
"""So many others must have reached the epoch before the median rule stops a trial; as in Tune."""


def make_rule(config: SchedulerConfig) -> Rule:
    """The rule of a definition.

    Raises:
        DefinitionError: there is no scheduler of that name.
    """
    grace, factor = config.grace_epochs, config.reduction_factor
    rules: dict[str, Rule] = {
        "none": _never,
        "asha": partial(halving_stops, grace=grace, factor=factor),
        "hyperband": partial(hyperband_stops, grace=grace, factor=factor),
        "median": partial(median_stops, grace=grace),
    }
    if config.name not in rules:
        raise DefinitionError(
            f"scheduler.name = {config.name!r}: no such scheduler; {did_you_mean(config.name, rules)}"
        )
    return rules[config.name]


def _never(curves: Curves, number: int, epoch: int) -> bool:
    return False


def halving_stops(curves: Curves, number: int, epoch: int, *, grace: int, factor: int) -> bool:
    """Asynchronous successive halving (https://arxiv.org/abs/1810.05934).

    At epochs `grace`, `grace * factor`, `grace * factor**2`, … a trial must be among the best 1/`factor` of
    those that came to the same epoch before it.
    """
    rung = grace
    while rung < epoch:
        rung *= factor
    if rung > epoch:
        return False
    others = [curve[epoch] for other, curve in curves.items() if other != number and epoch in curve]
    return bool(others) and bool(curves[number][epoch] < np.percentile(others, (1 - 1 / factor) * 100))


def hyperband_stops(curves: Curves, number: int, epoch: int, *, grace: int, factor: int) -> bool:
    """Hyperband in its asynchronous form: brackets of successive halving that begin to stop ever later.

    Trials are dealt to the brackets in turn, and are compared within theirs. (Tune's synchronous Hyperband
    needs trials paused, and kept by Tune.)
    """
    bracket = number % HYPERBAND_BRACKETS
    peers = {other: curve for other, curve in curves.items() if other % HYPERBAND_BRACKETS == bracket}
    return halving_stops(peers, number, epoch, grace=grace * factor**bracket, factor=factor)


def median_stops(curves: Curves, number: int, epoch: int, *, grace: int) -> bool:
    """The median rule of Google Vizier: the trial's best AUC is below the median of the others' means so far.

    Means are over the epochs from `grace` to this one, of those that reached it.
    """
    if epoch < grace:
        return False
    span = range(grace, epoch + 1)
    others = [[c[e] for e in span] for other, c in curves.items() if other != number and epoch in c]
    if len(others) < MEDIAN_NEEDS:
        return False
    return bool(np.median(np.mean(others, axis=1)) > max(curves[number].values()))


class StratifiedScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Stops trials early: compared within their stratum under `goal = "compare"`, with all under `"best"`.

    An epoch counts once, however often it is told: after a stop, and after a worker's death without a
    checkpoint, Tune tells epochs again. What became of past trials is known and not decided again.

    Attributes:
        curves: what is known of each stratum's trials.
    """

    def __init__(self, config: StudyConfig, lost: dict[str, str], past: Iterable[FrozenTrial]) -> None:
        """`lost` takes the reasons of worker failures, by Tune's trial id; `past` are trials that ended."""
        super().__init__()
        rule, trainings = make_rule(config.scheduler), config.dataset.splits.trainings
        folds = partial(stops_between_folds, rule, epochs=config.budget.epochs, trainings=trainings)
        self._rule: Rule = folds if trainings > 1 else rule
        self._apart = config.goal == "compare"
        self._lost = lost
        self.curves: dict[str, dict[int, dict[int, float]]] = defaultdict(dict)
        for trial in past:
            self._learn(trial.user_attrs.get("stratum", ""), trial.number, trial.intermediate_values)

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
        self._learn(assignment.stratum, assignment.number, assignment.reported)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision on an epoch; what is told again was decided on when it came first."""
        number, peers = _assignment(trial).number, self._peers(_assignment(trial).stratum)
        news = self._learn_result(trial, result)
        stops = news and self._rule(peers, number, int(result[TIME]))
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Learn the last epoch."""
        self._learn_result(trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the reason for the driver: the searcher is only told that there was an error."""
        error = trial.get_pickled_error()
        self._lost[trial.trial_id] = (
            f"the worker was lost ({_said_last(error)})" if error else "the worker was lost"
        )

    def debug_string(self) -> str:
        """What Tune may print."""
        return f"{sum(map(len, self.curves.values()))} trials known"

    def _learn_result(self, trial: Any, result: Mapping[str, Any]) -> bool:
        """Whether the result tells an epoch that was not known; a failure tells none."""
        if METRIC not in result:
            return False
        assignment = _assignment(trial)
        told = {int(result[TIME]): float(result[METRIC])}
        return self._learn(assignment.stratum, assignment.number, told)

    def _learn(self, stratum: str, number: int, told: Mapping[int, float]) -> bool:
        """Whether any of the epochs is new."""
        if not told:
            return False
        curve = self._peers(stratum).setdefault(number, {})
        known = len(curve)
        for epoch in sorted(told):
            curve.setdefault(epoch, told[epoch])
        return len(curve) > known

    def _peers(self, stratum: str) -> dict[int, dict[int, float]]:
        return self.curves[stratum if self._apart else ""]


def _said_last(error: BaseException) -> str:
    """The error's name and its last line: Ray puts a worker's own exception below its own words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__


def _assignment(trial: Any) -> Assignment:
    """The trial as the driver knows it, by its number: one that is begun again has another id in Tune."""
    assignment: Assignment = trial.config["order"].assignment
    return assignment
