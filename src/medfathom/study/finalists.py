"""Cross-validation as a fidelity: every trial has its first fold, the best go on with the others.

A trial ends with its first fold, and is not complete. One of the best goes on as a new trial, a *finalist*,
with the same parameters and seed, from the second fold. All later folds together may take as long as all
first folds did: so the study costs about twice what it costs with one validation split, at most. Each study,
and each stratum of a comparison, has one finalist in any case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.study.summary import GOES_ON_FROM, WITHDRAWN


def next_finalist(
    config: StudyConfig, trials: Sequence[FrozenTrial], *, all_begun: bool
) -> FrozenTrial | None:
    """The ended trial that goes on now; None: none does.

    Args:
        config: the definition.
        trials: all of the study.
        all_begun: whether the budget leaves no new trial to begin.
    """
    trainings = config.dataset.splits.trainings
    if trainings == 1:
        return None
    went_on = {t.user_attrs[GOES_ON_FROM]: t for t in trials if GOES_ON_FROM in t.user_attrs}
    firsts = [t for t in trials if GOES_ON_FROM not in t.user_attrs and WITHDRAWN not in t.user_attrs]
    ended = [t for t in firsts if t.number not in went_on and has_first_fold(t, config.budget.epochs)]
    if not ended:
        return None
    apart = config.goal == "compare"
    failed = {number for number, t in went_on.items() if t.state == TrialState.FAIL}
    finalists = Counter(_stratum(t, apart) for t in firsts if t.number in went_on.keys() - failed)
    # The strata that have the fewest finalists come first, in them the best.
    best = min(ended, key=lambda t: (finalists[_stratum(t, apart)], -(t.value or 0.0), t.number))
    last = all_begun and all(t.state.is_finished() for t in firsts)  # a failed finalist counts as none
    if last and not finalists[_stratum(best, apart)]:
        return best
    spent = sum(_seconds(t) for t in firsts if t.state.is_finished())
    later = sum(_later_seconds(firsts, t, trainings) for t in went_on.values())
    expected = _seconds(best) * (trainings - 1)
    return best if later + expected <= spent else None


def decided(config: StudyConfig, left: FrozenTrial) -> dict[int, float]:
    """The epochs that a trial to go on with need not tell again: all reported but its first fold's last one.

    With that epoch it ends. As it runs still, its driver died before it could end it.

    Args:
        config: the definition.
        left: the trial, of a run that is no more.
    """
    epochs, reported = config.budget.epochs, left.intermediate_values
    ends = config.dataset.splits.trainings > 1 and GOES_ON_FROM not in left.user_attrs
    last = epochs if ends and len(reported) == epochs else None
    return {epoch: value for epoch, value in reported.items() if epoch != last}


def has_first_fold(trial: FrozenTrial, epochs: int) -> bool:
    """Whether the trial ended with its first fold; one that the scheduler stopped before did not.

    Args:
        trial: of a cross-validation.
        epochs: of a fold.
    """
    reached = trial.user_attrs.get("epochs") == epochs and trial.user_attrs.get("folds")
    return trial.state == TrialState.PRUNED and bool(reached)


def _stratum(trial: FrozenTrial, apart: bool) -> str:
    return str(trial.user_attrs.get("stratum", "")) if apart else ""


def _seconds(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("train_seconds", 0.0))


def _later_seconds(firsts: Sequence[FrozenTrial], finalist: FrozenTrial, trainings: int) -> float:
    """What a finalist's later folds took, or may take."""
    if finalist.state.is_finished():
        return _seconds(finalist)
    first = next(t for t in firsts if t.number == finalist.user_attrs[GOES_ON_FROM])
    return _seconds(first) * (trainings - 1)
