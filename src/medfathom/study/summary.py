"""A study's state, best trials, strata and failures, as plain values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import Value, label
from medfathom.metrics.rules import Rule
from medfathom.study.choice import Choice, choice_of, completed, objective_of, rule_of
from medfathom.study.front import Front, front_of
from medfathom.study.hyperparameters import Hyperparameters, space_of
from medfathom.study.ids import whole
from medfathom.study.record import auc_of, record_of
from medfathom.study.tuning import Tuning, tunings

WITHDRAWN = "withdrawn"
"""Attribute of a trial that is not asked for any more and had no epoch: it ended, and counts as nothing."""


GOES_ON_FROM = "goes_on_from"
"""Attribute of a trial with a cross-validation's later folds: the trial that had the first one."""


class ByState(TypedDict):
    """Trials by Optuna's name of their state."""

    COMPLETE: int
    PRUNED: int
    FAIL: int
    RUNNING: int


@dataclass(frozen=True)
class Counts:
    """Trials of a study by state."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0

    @property
    def finished(self) -> int:
        """Trials that ended, however."""
        return self.complete + self.pruned + self.failed

    def by_state(self) -> ByState:
        """Optuna's name of a state -> trials in it."""
        return {
            "COMPLETE": self.complete,
            "PRUNED": self.pruned,
            "FAIL": self.failed,
            "RUNNING": self.running,
        }


def once(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Trials without those that go on as later ones, which stand for them."""
    went_on = {t.user_attrs.get(GOES_ON_FROM) for t in trials}
    return [t for t in trials if t.number not in went_on]


def count_states(trials: list[FrozenTrial]) -> Counts:
    """Trials by state; one that goes on as a later trial is counted there."""
    count = Counter(t.state for t in once(trials) if WITHDRAWN not in t.user_attrs)
    return Counts(
        complete=count[TrialState.COMPLETE],
        pruned=count[TrialState.PRUNED],
        failed=count[TrialState.FAIL],
        running=count[TrialState.RUNNING],
    )


BEST_SHOWN = 10


SHOWN_OF_A_TRIAL = (
    "architecture",
    "init",
    "unfreeze_depth",
    "strategy",
    "auc_ci_low",
    "auc_ci_high",
    "log_loss",
    "n_params",
    "n_trainable_params",
    "depth",
    "epochs",
    "train_seconds",
    "unit",
    "image_auc",
    "fold_aucs",
    "objective_value",
)


SHOWN = (
    *("stratum", "stop_reason", "unit", "objective_value", "auc", "auc_ci_low", "auc_ci_high"),
    *("log_loss", "val_loss", "folds"),
    WITHDRAWN,
    GOES_ON_FROM,
)
"""User attributes that a summary needs of all trials; of the best it reads the rest."""


@dataclass(frozen=True)
class TrialSummary:
    """One of the best trials. None: it was not written down.

    Attributes:
        auc: of the validation split, with its 95 % interval.
        log_loss: of the validation split, of probabilities that are not calibrated.
        depth: weighted layers on the longest path.
        unit: what the AUC is per, where that is not the image.
        image_auc: AUC per image, where it is not `auc`.
        fold_aucs: of a cross-validated trial, whose `auc` is their mean.
        datasets: of several data sets: the AUC of each, of which `auc` is the mean.
        objective_value: of the study's objective; None: that is the AUC.
        params: hyperparameters by name, with what the study holds fixed.
    """

    number: int
    auc: float | None
    architecture: str | None
    init: str | None
    unfreeze_depth: int | None
    strategy: str | None
    auc_ci_low: float | None
    auc_ci_high: float | None
    log_loss: float | None
    n_params: int | None
    n_trainable_params: int | None
    depth: int | None
    epochs: int | None
    train_seconds: float | None
    unit: str | None
    image_auc: float | None
    fold_aucs: Sequence[float] | None
    datasets: Mapping[str, float | None] | None
    objective_value: float | None
    params: Mapping[str, Value]


@dataclass(frozen=True)
class StratumSummary:
    """A stratum's trials by state, and the validation AUC of its best complete trial.

    Attributes:
        tuning: how well it is tuned, where strata are compared; None: they are not.
    """

    stratum: str
    complete: int
    pruned: int
    failed: int
    best_auc: float | None
    tuning: Tuning | None = None


@dataclass(frozen=True)
class FailureSummary:
    """How many trials failed for a reason."""

    reason: str
    trials: int


@dataclass(frozen=True)
class StudySummary:
    """What `medfathom show` shows.

    Attributes:
        objective: what the search looks for.
        budget: trials that the study may have; None: unknown.
        choice: how the best trial was chosen, and which may be as good; None: no trial is complete.
        front: the trials that none beats in AUC and cost, where both are searched; None: AUC alone is.
        best: the best complete trials, at most `BEST_SHOWN`.
        strata: best first; those without a complete trial last, of a comparison also those without any.
        failures: the most frequent reason first.
    """

    study: str
    question: str
    goal: str
    objective: str
    modality: str
    budget: int | None
    states: Counts
    choice: Choice | None
    best: Sequence[TrialSummary]
    strata: Sequence[StratumSummary]
    failures: Sequence[FailureSummary]
    front: Front | None = None

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self) | {"states": self.states.by_state()}


def summarize_study(study: Study, trials: Sequence[FrozenTrial]) -> StudySummary:
    """Summarize a study.

    Args:
        study: to summarize.
        trials: its trials, with the user attributes `SHOWN` at least.
    """
    trials, by = list(trials), rule_of(study)
    attributes = study.user_attrs
    definition = attributes.get("definition", {})
    named = Hyperparameters(study)
    failed = [t for t in trials if t.state == TrialState.FAIL and WITHDRAWN not in t.user_attrs]
    failures = Counter(t.user_attrs.get("stop_reason", "?") for t in failed)
    return StudySummary(
        study=study.study_name,
        question=attributes.get("question", ""),
        goal=attributes.get("goal", ""),
        objective=objective_of(study),
        modality=attributes.get("modality", ""),
        budget=definition.get("budget", {}).get("trials"),
        states=count_states(trials),
        choice=choice_of(study, trials),
        front=front_of(study, trials),
        best=[_trial(whole(study, t), named) for t in completed(trials, by)[:BEST_SHOWN]],
        strata=_strata(trials, by, _compared(study)),
        failures=[FailureSummary(reason, n) for reason, n in failures.most_common()],
    )


def _trial(trial: FrozenTrial, named: Hyperparameters) -> TrialSummary:
    record = record_of(trial)
    shown = {name: getattr(record, name) for name in SHOWN_OF_A_TRIAL}
    return TrialSummary(
        number=trial.number,
        auc=auc_of(trial),
        datasets={name: own.auc for name, own in (record.datasets or {}).items()} or None,
        params=named.of(trial),
        **shown,
    )


def _compared(study: Study) -> list[str] | None:
    """The strata that a comparison is of, tried or not; None: strata are not compared."""
    if study.user_attrs.get("goal") != "compare":
        return None
    space = space_of(study)
    return [label(stratum) for stratum in space.strata()] if space else []


def without_trial(config: StudyConfig, trials: Sequence[FrozenTrial]) -> list[str]:
    """The strata of a comparison that no trial was run of."""
    tried = {t.user_attrs.get("stratum") for t in trials if WITHDRAWN not in t.user_attrs}
    names = [label(s) for s in config.space.strata()] if config.goal == "compare" else []
    return [name for name in names if name not in tried]


def _strata(trials: list[FrozenTrial], by: Rule, compared: list[str] | None) -> list[StratumSummary]:
    trials_of: dict[str, list[FrozenTrial]] = defaultdict(list, {name: [] for name in compared or ()})
    for trial in trials:
        if "stratum" in trial.user_attrs:
            trials_of[trial.user_attrs["stratum"]].append(trial)
    best = {name: completed(mine, by)[:1] for name, mine in trials_of.items()}
    first = [t.user_attrs["stratum"] for t in completed([t for found in best.values() for t in found], by)]
    without = sorted(name for name in trials_of if name not in first)
    tuned = {} if compared is None else tunings(once(trials), [*trials_of], by)
    return [_stratum(name, trials_of[name], best[name], tuned.get(name)) for name in [*first, *without]]


def _stratum(
    name: str, trials: list[FrozenTrial], best: list[FrozenTrial], tuning: Tuning | None
) -> StratumSummary:
    counts = count_states(trials)
    return StratumSummary(
        name, counts.complete, counts.pruned, counts.failed, auc_of(best[0]) if best else None, tuning
    )
