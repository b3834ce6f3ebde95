"""Which finished trial of a study is the best, by its definition's rule, and which may be as good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import ChoiceConfig
from medfathom.metrics.auc import have_auc
from medfathom.metrics.choice import best_first
from medfathom.metrics.cross_validated import mean_influence
from medfathom.metrics.rules import RULES, Rule, includes_chance, is_auc, is_loss, objective_title
from medfathom.metrics.ties import may_be_best, none_told_apart
from medfathom.study.predictions import read_predictions_of
from medfathom.study.record import auc_of, record_of, value_of

if TYPE_CHECKING:
    from medfathom.trial.validation import ValidationPredictions

NAMED = 8
"""Equal trials that are named; more are counted."""

COMPARED = 100
"""So many trials at most are compared image by image: those with the highest AUC."""


def objective_of(study: Study) -> str:
    """What a study looks for; one of an earlier version: the AUC."""
    return str(study.user_attrs.get("definition", {}).get("objective", "auc"))


def rule_of(study: Study) -> Rule:
    """By what the best trial of a study is chosen; one of an earlier version stays with what it told: AUC."""
    objective = objective_of(study)
    if not is_auc(objective):
        return "log_loss" if is_loss(objective) else "objective"
    choice = study.user_attrs.get("definition", {}).get("choice")
    return "auc" if choice is None else ChoiceConfig.model_validate(choice).by


def rule_words(study: Study) -> str:
    """The rule by which the best trial is chosen, in words."""
    rule = rule_of(study)
    if rule == "objective":
        return f"the highest validation {objective_title(objective_of(study))}"
    return RULES[rule]


def completed(trials: Iterable[FrozenTrial], by: Rule) -> list[FrozenTrial]:
    """Trials that ran their full length, best first; of trials that are equal, the earlier.

    Optuna gives a stopped trial its last intermediate value as `value`: never rank by that alone.
    """
    of = value_of if by == "objective" else auc_of
    ended = [t for t in trials if t.state == TrialState.COMPLETE]
    known = [(t, value) for t in ended if (value := of(t)) is not None]
    losses = [np.nan if (loss := log_loss_of(t)) is None else loss for t, _ in known]
    return [known[i][0] for i in best_first([value for _, value in known], losses, by)]


def best_so_far(trials: Iterable[FrozenTrial], objective: str) -> FrozenTrial | None:
    """The complete trial with the best value of an objective, whatever the rule of choice; None: none is."""
    rule: Rule = "auc" if is_auc(objective) else "log_loss" if is_loss(objective) else "objective"
    return next(iter(completed(trials, rule)), None)


def log_loss_of(trial: FrozenTrial) -> float | None:
    """Log loss of the validation images (or cases), of probabilities that are not calibrated; None: unknown.

    Earlier versions recorded the loss of images alone, which is the same where images are judged.
    """
    known = trial.user_attrs  # not `record_of`: this is asked of thousands of trials
    loss: float | None = known.get("log_loss", None if known.get("unit") else known.get("val_loss"))
    return loss


@dataclass(frozen=True)
class Choice:
    """How the best trial of a study stands among the others.

    Attributes:
        by: the rule.
        best: number of the best trial.
        auc: its validation AUC.
        log_loss: its validation log loss; None: unknown.
        chance: whether its AUC's 95 % interval includes .5.
        finished: trials that ran their full length.
        losses_known: whether the log loss of all of them is known; else AUC alone decided.
        equal: numbers of trials with the same AUC and log loss: the lowest number was taken.
        tied: numbers of the trials that may have the highest AUC; None: their predictions are not here.
        compared: of how many trials the predictions are here, or whose AUC is certainly lower.
        units: validation images or cases; 0: not known.
        unit: which of them.
        objective: what the study looks for.
        value: what the best trial reached of it; None: it is `auc`, or unknown.
    """

    by: Rule
    best: int
    auc: float
    log_loss: float | None
    chance: bool
    finished: int
    losses_known: bool
    equal: tuple[int, ...]
    tied: tuple[int, ...] | None = None
    compared: int = 0
    units: int = 0
    unit: str = "image"
    objective: str = "auc"
    value: float | None = None


def choice_of(study: Study, trials: Sequence[FrozenTrial], *, compare: bool = True) -> Choice | None:
    """How the best trial stands; None: no trial is complete.

    Args:
        study: of the trials.
        trials: with the user attributes of `study.summary.SHOWN` at least.
        compare: also image by image, which takes up to some seconds.
    """
    by, objective = rule_of(study), objective_of(study)
    compare = compare and is_auc(objective)  # the test that is known is one of AUCs
    done = completed(trials, by)
    if not done:
        return None
    best, losses = done[0], {t.number: log_loss_of(t) for t in done}
    low = record_of(best).auc_ci_low
    alike = (t for t in done[1:] if value_of(t) == value_of(best) and losses[t.number] == losses[best.number])
    tied, compared, units = _tied(study, done) if compare else (None, 0, 0)
    return Choice(
        by=by,
        best=best.number,
        auc=auc_of(best) or 0.0,
        log_loss=losses[best.number],
        chance=includes_chance(low),
        finished=len(done),
        losses_known=None not in losses.values(),
        equal=tuple(t.number for t in alike),
        tied=tied,
        compared=compared,
        units=units,
        unit=record_of(best).unit or "image",
        objective=objective,
        value=None if is_auc(objective) else value_of(best),
    )


def _tied(study: Study, done: Sequence[FrozenTrial]) -> tuple[tuple[int, ...] | None, int, int]:
    """Numbers of the trials that may have the highest AUC (None: unknown), how many were compared, images."""
    by_auc = completed(done, "auc")
    near = [t for t in by_auc if _may_be_near(t, by_auc[0])]
    if record_of(by_auc[0]).folds:
        repeats = study.user_attrs["definition"]["dataset"]["splits"]["repeats"]
        return _tied_over_folds(done, near[:COMPARED], len(near), repeats)
    known = _own_predictions(study, near[:COMPARED])
    if by_auc[0].number not in known:
        return None, 0, 0
    alike = _of_the_same_images(known, known[by_auc[0].number])
    first = next(iter(alike.values()))
    kept = may_be_best(first.positive, [each.scores for each in alike.values()], first.groups)
    tied = tuple(sorted(number for number, is_kept in zip(alike, kept, strict=True) if is_kept))
    return tied, len(done) - len(near) + len(alike), len(first.labels)


def _own_predictions(study: Study, trials: Sequence[FrozenTrial]) -> dict[int, ValidationPredictions]:
    """Predictions by number, without those that a copy of the storage has written there since."""
    known = read_predictions_of(study, [t.number for t in trials])
    aucs = {t.number: auc_of(t) for t in trials}
    return {n: each for n, each in known.items() if have_auc(each.positive, each.scores, aucs[n] or 0.0)}


def _tied_over_folds(
    done: Sequence[FrozenTrial], near: Sequence[FrozenTrial], n_near: int, repeats: int
) -> tuple[tuple[int, ...], int, int]:
    """The same of cross-validated trials, from what each fold tells of the mean AUC."""
    folds = {t.number: [score.judged for score in record_of(t).folds or []] for t in near}
    whole = len(folds[near[0].number])
    alike = {number: judged for number, judged in folds.items() if len(judged) == whole}
    auc = np.array([np.mean([fold.auc for fold in judged]) for judged in alike.values()])
    influence = np.array([mean_influence(judged) for judged in alike.values()])
    first = next(iter(alike.values()))
    rarest = sum(min(fold.positives, fold.negatives) for fold in first) / repeats
    kept = none_told_apart(auc, influence, rarest)
    tied = tuple(sorted(number for number, is_kept in zip(alike, kept, strict=True) if is_kept))
    # Not positives and negatives: those count patients, where they are known.
    units = sum(fold.judged for fold in first) // repeats if all(fold.judged for fold in first) else 0
    return tied, len(done) - n_near + len(alike), units


def _may_be_near(trial: FrozenTrial, highest: FrozenTrial) -> bool:
    """Whether two intervals overlap: where they do not, the paired difference is beyond chance too."""
    # Not `record_of`: this is asked of thousands of trials.
    high, low = trial.user_attrs.get("auc_ci_high"), highest.user_attrs.get("auc_ci_low")
    return high is None or low is None or high >= low


def _of_the_same_images(
    known: dict[int, ValidationPredictions], highest: ValidationPredictions
) -> dict[int, ValidationPredictions]:
    return {n: each for n, each in known.items() if np.array_equal(each.labels, highest.labels)}


def choice_sentences(choice: Choice, *, compared: bool = True) -> list[str]:
    """How the best trial was chosen and what may be as good; the most important first.

    Args:
        choice: to describe.
        compared: whether trials were compared image by image.
    """
    lines = []
    if choice.chance:
        lines.append(
            "Perhaps no better than chance: the 95 % interval of the best trial's validation AUC "
            f"{choice.auc:.4f} includes 0.5, and guessing reaches 0.5."
        )
    lines.append(_how(choice))
    if choice.equal:
        others = ", ".join(map(str, choice.equal[:NAMED]))
        more = f" and {len(choice.equal) - NAMED:,} more" if len(choice.equal) > NAMED else ""
        of = "AUC" if is_auc(choice.objective) else objective_title(choice.objective)
        also = "" if is_loss(choice.objective) else " and log loss"
        lines.append(f"Equal to it in {of}{also}: trial {others}{more}. The lowest number is taken.")
    return lines + (_as_good(choice) if compared else [])


def _how(choice: Choice) -> str:
    """Which trial is the best, by which rule."""
    if not choice.losses_known and choice.by != "auc":
        return (
            f"Trial {choice.best} is called best by AUC alone, as earlier versions did not record the log "
            "loss of all trials."
        )
    loss = "" if choice.log_loss is None else f", log loss {choice.log_loss:.4g}"
    if choice.value is not None:
        title = objective_title(choice.objective)
        least = "lowest" if is_loss(choice.objective) else "highest"
        loss = "" if is_loss(choice.objective) else loss
        return (
            f"The search optimises {title}. Trial {choice.best} is called best: it has the {least} "
            f"validation {title}, {choice.value:.4f} (AUC {choice.auc:.4f}{loss})."
        )
    return f"Trial {choice.best} is called best: it has {RULES[choice.by]} (AUC {choice.auc:.4f}{loss})."


def _as_good(choice: Choice) -> list[str]:
    """How many trials may have the highest AUC."""
    if choice.finished == 1:
        return []
    if not is_auc(choice.objective):
        return [
            "It is not tested how many other trials may be as good: the test exists for AUC, not for "
            f"{objective_title(choice.objective)}."
        ]
    if choice.tied is None:
        return [
            "It is not known how many other trials may be as good: the validation predictions are not here "
            "(an earlier version ran the trials, or a driver with another home folder)."
        ]
    of = f"{choice.compared} of {choice.finished}" if choice.compared < choice.finished else "all"
    how = f"(paired DeLong test, all comparisons together at 5 %; {of} trials compared)"
    many = f"{choice.units} " if choice.units else ""
    images = f"on the same {many}validation {choice.unit}s"
    lines = [
        f"{len(choice.tied)} of {choice.finished} finished trials may have the highest AUC: {images} their "
        f"AUCs do not differ significantly {how}."
        if len(choice.tied) > 1
        else f"Trial {choice.tied[0]} alone has the highest AUC: {images} the AUCs of the others are "
        f"significantly lower {how}."
    ]
    if choice.best not in choice.tied:
        lines.append(f"The AUC of trial {choice.best} is significantly lower than the highest.")
    return lines
