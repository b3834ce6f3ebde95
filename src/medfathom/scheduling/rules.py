"""Early stopping: one of Tune's rules per stratum, taught what earlier runs saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from medfathom.definitions import SchedulerConfig, StudyConfig
from medfathom.scheduling.actor import METRIC, TIME
from medfathom.scheduling.unsaved import Unsaved

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HYPERBAND_BRACKETS = 3


class StratifiedScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """One early-stopping rule per stratum under `goal = "compare"`, one for all under `"best"`.

    It begins by replaying what earlier runs saw; an adopted trial brings its own past along. `lost` takes the
    reasons of worker failures, by Tune's trial id.
    """

    def __init__(self, config: StudyConfig, lost: dict[str, str], past: list[FrozenTrial]) -> None:
        super().__init__()
        self._config = config
        self._lost = lost
        self._rules: dict[tuple[str, int], TrialScheduler] = {}
        for trial in past:
            self._replay_finished(trial)
        for rule in self._rules.values():
            _decide_again(rule)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The metric is fixed."""
        return True

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return METRIC

    def _rule(self, trial: Any) -> Any:
        stratum = trial.config["stratum"] if self._config.goal == "compare" else ""
        hyperband = self._config.scheduler.name == "hyperband"
        bracket = int(trial.config["number"]) % HYPERBAND_BRACKETS if hyperband else 0
        key = (stratum, bracket)
        if key not in self._rules:
            self._rules[key] = make_rule(self._config.scheduler, self._config.budget.epochs, bracket)
        return self._rules[key]

    def _replay_finished(self, trial: FrozenTrial) -> None:
        config = {"number": trial.number, "stratum": trial.user_attrs.get("stratum", "")}
        stand_in = PastTrial(f"past-{trial.number}", config)
        rule = self._rule(stand_in)
        _decide_nothing(rule)
        rule.on_trial_add(None, stand_in)
        results = [{TIME: e, METRIC: auc} for e, auc in sorted(trial.intermediate_values.items())]
        for result in results[:-1]:
            rule.on_trial_result(NoOtherTrials(), stand_in, result)
        rule.on_trial_complete(None, stand_in, results[-1] if results else {})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add it to its stratum's rule, with what is known of it already."""
        rule = self._rule(trial)
        rule.on_trial_add(tune_controller, trial)
        for epoch, auc in sorted((int(e), a) for e, a in trial.config["reported"].items()):
            rule.on_trial_result(NoOtherTrials(), trial, {TIME: epoch, METRIC: auc})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision; a rule that would make a trial wait lets it go on."""
        decision = self._rule(trial).on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.STOP if decision == TrialScheduler.STOP else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let the rule remember the last result."""
        self._rule(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Let the rule forget a trial that never ran."""
        self._rule(trial).on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the reason for the ledger: the searcher is only told that there was an error."""
        error = trial.get_pickled_error()
        name = type(error).__name__
        self._lost[trial.trial_id] = f"the worker was lost ({name})" if error else "the worker was lost"
        self._rule(trial).on_trial_error(tune_controller, trial)

    def debug_string(self) -> str:
        """What Tune may print."""
        return f"{len(self._rules)} rules"


@dataclass(frozen=True)
class PastTrial:
    """Stands for a finished trial when a rule is taught what earlier runs saw."""

    trial_id: str
    config: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.trial_id)


def _decide_nothing(rule: TrialScheduler) -> None:
    """Let ASHA's rungs only write down what comes.

    What became of past trials is known, and each decision looks at all of them: 15 s for 10,000.
    """
    for bracket in getattr(rule, "_brackets", []):
        bracket.cutoff = lambda recorded: None


def _decide_again(rule: TrialScheduler) -> None:
    for bracket in getattr(rule, "_brackets", []):
        del bracket.cutoff


class NoOtherTrials:
    """Stands for Tune's controller during a replay: nothing waits for a slot."""

    def get_live_trials(self) -> list[Any]:
        """None."""
        return []


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
