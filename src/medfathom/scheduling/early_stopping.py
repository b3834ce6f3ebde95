"""Early stopping: one of Tune's rules per stratum, taught what earlier runs saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from medfathom.definitions.config import SchedulerConfig, StudyConfig
from medfathom.scheduling.environment import Unsaved
from medfathom.scheduling.messages import METRIC, TIME

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HYPERBAND_BRACKETS = 3


class StratifiedScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """One early-stopping rule per stratum under `goal = "compare"`, one for all under `"best"`.

    It begins by remembering what earlier runs saw; an adopted trial brings its own past along. As in the
    driver, an epoch counts once, however often it is told. `lost` takes the reasons of worker failures, by
    Tune's trial id.
    """

    def __init__(self, config: StudyConfig, lost: dict[str, str], past: list[FrozenTrial]) -> None:
        super().__init__()
        self._config = config
        self._lost = lost
        self._rules: dict[tuple[str, int], TrialScheduler] = {}
        self._seen: dict[int, set[int]] = defaultdict(set)
        for trial in past:
            self._remember(trial.number, trial.user_attrs.get("stratum", ""), trial.intermediate_values)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The metric is fixed."""
        return True

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return METRIC

    def _rule(self, number: int, stratum: str) -> Any:
        stratum = stratum if self._config.goal == "compare" else ""
        hyperband = self._config.scheduler.name == "hyperband"
        bracket = number % HYPERBAND_BRACKETS if hyperband else 0
        key = (stratum, bracket)
        if key not in self._rules:
            self._rules[key] = make_rule(self._config.scheduler, self._config.budget.epochs, bracket)
        return self._rules[key]

    def _rule_of(self, trial: Any) -> tuple[Any, RuleTrial]:
        number = trial.config["order"].assignment.number
        return self._rule(number, trial.config["order"].assignment.stratum), RuleTrial(number)

    def _remember(self, number: int, stratum: str, reported: Mapping[int, float]) -> None:
        rule = self._rule(number, stratum)
        for epoch in sorted(set(reported) - self._seen[number]):
            remember(rule, RuleTrial(number), {TIME: epoch, METRIC: reported[epoch]})
        self._seen[number].update(reported)

    def _news(self, trial: Any, result: Mapping[str, Any]) -> dict[str, Any] | None:
        """An epoch that was not seen yet; None for a failure, and for what is told again.

        After a stop, and after a worker's death without a checkpoint, Tune tells epochs again.
        """
        seen = self._seen[trial.config["order"].assignment.number]
        if METRIC not in result or int(result[TIME]) in seen:
            return None
        seen.add(int(result[TIME]))
        return {TIME: int(result[TIME]), METRIC: float(result[METRIC])}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add it to its stratum's rule, with what is known of it already (Tune adds a lost one again)."""
        rule, known_as = self._rule_of(trial)
        rule.on_trial_add(tune_controller, known_as)
        reported = trial.config["order"].assignment.reported
        self._remember(known_as.trial_id, trial.config["order"].assignment.stratum, reported)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision; what is told again was decided on when it came first."""
        news = self._news(trial, result)
        if news is None:
            return str(TrialScheduler.CONTINUE)
        rule, known_as = self._rule_of(trial)
        return str(rule.on_trial_result(NoOtherTrials(), known_as, news))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let the rule remember the last result."""
        news = self._news(trial, result)
        if news is not None:
            rule, known_as = self._rule_of(trial)
            rule.on_trial_complete(tune_controller, known_as, news)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Let the rule forget a trial that never ran."""
        rule, known_as = self._rule_of(trial)
        rule.on_trial_remove(tune_controller, known_as)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the reason for the driver: the searcher is only told that there was an error."""
        error = trial.get_pickled_error()
        name = type(error).__name__
        self._lost[trial.trial_id] = f"the worker was lost ({name})" if error else "the worker was lost"

    def debug_string(self) -> str:
        """What Tune may print."""
        return f"{len(self._rules)} rules"


@dataclass(frozen=True)
class RuleTrial:
    """A trial as the rules know it, by its number: one that is begun again has another id in Tune."""

    trial_id: int


class NoOtherTrials:
    """Stands for Tune's controller: no trial waits for another's slot, so no rule makes one pause."""

    def get_live_trials(self) -> list[Any]:
        """None."""
        return []


def remember(rule: TrialScheduler, trial: RuleTrial, result: dict[str, Any]) -> None:
    """Write into a rule what it would keep of a result, without a decision.

    What became of the trial is known; and each decision looks at all trials: 15 s for 10,000.
    """
    if isinstance(rule, MedianStoppingRule):
        rule._results[trial].append(result)
    if isinstance(rule, AsyncHyperBandScheduler):
        (bracket,) = rule._brackets
        for milestone, recorded in bracket._rungs:  # the highest comes first
            if result[TIME] >= milestone:
                recorded.setdefault(trial.trial_id, result[METRIC])
                break


def make_rule(config: SchedulerConfig, max_epochs: int, bracket: int) -> TrialScheduler:
    """A fresh early-stopping rule.

    Hyperband here is its asynchronous form: brackets of successive halving that begin to stop trials ever
    later, trials dealt to them in turn (Tune's synchronous one needs trials paused and checkpointed by Tune).
    """
    if config.name == "none":
        return FIFOScheduler()
    if config.name == "median":
        return MedianStoppingRule(
            time_attr=TIME, metric=METRIC, mode="max", grace_period=config.grace_epochs, hard_stop=True
        )
    grace = min(config.grace_epochs * config.reduction_factor**bracket, max_epochs)
    return AsyncHyperBandScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="max",
        max_t=max_epochs,
        grace_period=grace,
        reduction_factor=config.reduction_factor,
        brackets=1,
        stop_last_trials=False,
    )
