"""Which configurations of a search are confirmed, and which strata have none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.confirmation.find import definition_of
from medfathom.definitions.grid import trials_of
from medfathom.definitions.space import label
from medfathom.errors import StorageError
from medfathom.study.choice import choice_of, completed, rule_of
from medfathom.study.front import front_of
from medfathom.study.summary import WITHDRAWN, count_states
from medfathom.study.tuning import all_settled
from medfathom.text import command


@dataclass(frozen=True)
class MissingStratum:
    """A stratum without a confirmed configuration, and why."""

    stratum: str
    reason: str


@dataclass(frozen=True)
class Choices:
    """What is to be confirmed.

    Attributes:
        trials: the best complete trial of every stratum by the study's rule, best first.
        missing: strata that have none, with the reason.
        as_good: those of `trials` whose stratum has a trial that may have the highest AUC, and the best
            trial; None: not known, or the study compares all strata.
        all_compared: whether every other trial has a significantly lower AUC: of some the predictions may not
            be here, or they were too many.
    """

    trials: list[FrozenTrial]
    missing: list[MissingStratum]
    as_good: list[FrozenTrial] | None = None
    all_compared: bool = True


def choose(study: Study) -> Choices:
    """The best complete trial of each stratum by the study's rule, see `metrics.rules`.

    Raises:
        StorageError: no trial is complete.
    """
    trials, by = study.get_trials(deepcopy=False), rule_of(study)
    in_strata: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in completed(trials, by):
        in_strata[str(trial.user_attrs.get("stratum", ""))].append(trial)
    if not in_strata:
        name = study.study_name
        raise StorageError(f"study {name!r}: no trial is complete yet; `{command('run', name)}` continues it")
    # Within a stratum the rule may choose another trial than among all: the margin is from its own highest.
    best = completed([completed(own, by)[0] for own in in_strata.values()], by)
    definition = definition_of(study)
    names = [label(s) for s in definition.space.strata()]
    missing = [MissingStratum(n, _why_missing(n, trials)) for n in names if n not in in_strata]
    choice = None if definition.goal == "compare" else choice_of(study, trials)
    if choice is None or choice.tied is None:
        return Choices(best, missing)
    as_good = _as_good(study, trials, best, (choice.best, *choice.tied))
    return Choices(best, missing, as_good, all_compared=choice.compared == choice.finished)


def _as_good(
    study: Study, trials: list[FrozenTrial], best: list[FrozenTrial], numbers: Sequence[int]
) -> list[FrozenTrial]:
    """Those of the best whose stratum has one of some trials, or of the front."""
    front = front_of(study, trials)
    on_front = (t.number for t in front.trials) if front else ()
    wanted = {trials[number].user_attrs.get("stratum") for number in (*numbers, *on_front)}
    return [t for t in best if t.user_attrs.get("stratum") in wanted]


def _why_missing(stratum: str, trials: list[FrozenTrial]) -> str:
    mine = [t for t in trials if t.user_attrs.get("stratum") == stratum and WITHDRAWN not in t.user_attrs]
    if not mine:
        return "no trial was drawn"
    count = {
        s: sum(t.state == s for t in mine) for s in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    }
    words = {TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed", TrialState.RUNNING: "running"}
    return "no complete trial (" + ", ".join(f"{n} {words[s]}" for s, n in count.items() if n) + ")"


def complete_trial(study: Study, number: int) -> FrozenTrial:
    """A search trial by its number.

    Raises:
        StorageError: there is no such trial, or it did not run its full length.
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise StorageError(
            f"study {study.study_name!r} has no trial {number}; its trials are 0 to {len(trials) - 1}"
        )
    trial = trials[number]
    if trial.state != TrialState.COMPLETE:
        reason = trial.user_attrs.get("stop_reason", "it has not ended")
        raise StorageError(
            f"study {study.study_name!r}: trial {number} is {trial.state.name} ({reason}), so it has no model"
        )
    return trial


def unfinished_search(study: Study) -> str | None:
    """That a search has not ended all trials that its definition and its strata need; None: it has."""
    trials, definition = study.get_trials(deepcopy=False), definition_of(study)
    ended, budget = count_states(trials).finished, trials_of(definition)
    if ended >= budget or all_settled(trials, definition):
        return None
    return (
        f"the search has ended {ended} of {budget} trials; "
        "more trials may change which models are chosen, and to confirm those opens the test split again"
    )
