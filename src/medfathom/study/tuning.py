"""How well each stratum of a comparison is tuned: what more trials would bring, and who needs none."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.space import label
from medfathom.metrics.influences import Floats
from medfathom.metrics.intervals import error_from_ends
from medfathom.metrics.rules import Rule
from medfathom.metrics.tuning import LEAST, chances_of_choice, expected_choice, rarest_met
from medfathom.study.choice import completed, log_loss_of
from medfathom.study.record import auc_of, record_of

WITHIN_NOISE = 0.5
"""A stratum is settled when the second half of its trials is expected to have brought no more than this share
of the standard error of its best validation AUC; as a rule, doubling them brings less. A deficit so large
adds an eighth to the whole error: sqrt(1 + .5^2) = 1.12."""

NAMED = 3
"""More strata than this are counted."""


@dataclass(frozen=True)
class Tuning:
    """How well a stratum is tuned. None: too few trials tell.

    Attributes:
        trials: that ended, complete or stopped early.
        among: how many trials `expected` is of: half of what the stratum with the fewest has.
        expected: validation AUC expected of the choice among so many of its trials, for all strata alike.
        low, high: its 95 % interval.
        gain: what the second half of its own trials is expected to have brought.
        noise: standard error of the best trial's validation AUC.
    """

    trials: int
    among: int
    expected: float | None
    low: float | None
    high: float | None
    gain: float | None
    noise: float | None

    @property
    def settled(self) -> bool:
        """Whether more trials are expected to bring less than validation images can tell."""
        if self.gain is None or self.noise is None:
            return False
        return self.trials >= LEAST and self.gain <= WITHIN_NOISE * self.noise


def tunings(trials: Iterable[FrozenTrial], strata: Sequence[str], by: Rule) -> dict[str, Tuning]:
    """How well each stratum is tuned.

    Args:
        trials: of a study.
        strata: their names.
        by: the study's rule of choice.
    """
    ended = _ended(trials)
    among = min((len(ended[name]) for name in strata), default=0) // 2
    return {name: _tuning(ended[name], among, by) for name in strata}


def settled_strata(trials: Iterable[FrozenTrial], by: Rule, known: dict[tuple[str, int], bool]) -> set[str]:
    """Names of the strata that need no more trials.

    Args:
        trials: of a study.
        by: its rule of choice.
        known: stratum and ended trials -> the answer; what is new is added, as each trial asks anew.
    """
    ended = _ended(trials)
    for name, own in ended.items():
        if (name, len(own)) not in known:
            known[name, len(own)] = _tuning(own, 0, by).settled
    return {name for name, own in ended.items() if known[name, len(own)]}


def all_settled(trials: Iterable[FrozenTrial], config: StudyConfig) -> bool:
    """Whether a study's strata are compared, and none of them needs more trials."""
    if not settles(config):
        return False
    settled = settled_strata(trials, config.choice.by, {})
    return all(label(stratum) in settled for stratum in config.space.strata())


def settles(config: StudyConfig) -> bool:
    """Whether strata of a study may get fewer trials than others. A grid has its strata in it, and of a
    cross-validation too few trials are complete."""
    whole = config.dataset.splits.folds is None and config.sampler.name != "grid"
    return config.goal == "compare" and config.budget.settle and whole


def _ended(trials: Iterable[FrozenTrial]) -> defaultdict[str, list[FrozenTrial]]:
    found: defaultdict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and auc_of(trial) is not None:
            found[str(trial.user_attrs.get("stratum", ""))].append(trial)
    return found


def _tuning(ended: list[FrozenTrial], among: int, by: Rule) -> Tuning:
    best = next(iter(completed(ended, by)), None)
    if best is None:
        return Tuning(len(ended), among, None, None, None, None, None)
    record = record_of(best)
    auc, losses = _values(ended)
    expected = expected_choice(auc, losses, among, by) if among else None
    half = float(chances_of_choice(auc, losses, len(auc) // 2, by) @ auc) if len(auc) > 1 else None
    return Tuning(
        trials=len(ended),
        among=among,
        expected=expected.value if expected else None,
        low=_known(expected.low) if expected else None,
        high=_known(expected.high) if expected else None,
        gain=None if half is None else (auc_of(best) or 0.0) - half,
        noise=error_from_ends(auc_of(best) or 0.0, record.auc_ci_low, record.auc_ci_high),
    )


def _values(ended: list[FrozenTrial]) -> tuple[Floats, Floats]:
    """AUC and log loss as the rule sees them: a stopped trial is no better than the worst finished one."""
    complete = [t for t in ended if t.state == TrialState.COMPLETE]
    lowest = min(auc_of(t) or 0.0 for t in complete)
    known = all(log_loss_of(t) is not None for t in complete)
    auc, losses = [], []
    for trial in ended:
        stopped = trial.state != TrialState.COMPLETE
        auc.append(min(auc_of(trial) or 0.0, lowest) if stopped else auc_of(trial) or 0.0)
        losses.append(math.inf if stopped else log_loss_of(trial) if known else math.nan)
    if not known:
        losses = [math.nan] * len(auc)
    return np.array(auc, dtype=np.float64), np.array(losses, dtype=np.float64)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def tuning_sentences(found: Mapping[str, Tuning]) -> list[str]:
    """Which strata more trials are expected to change; empty where none was tuned."""
    tuned = {name: each for name, each in found.items() if each.gain is not None}
    open_ = sorted(name for name, each in found.items() if not each.settled)
    if not tuned:
        return []
    fewest = min(each.trials for each in tuned.values())
    unknown = [
        f"This does not count settings that no trial tried: {fewest} random trials may all miss a good "
        f"region that fewer than 1 in {rarest} random trials would find."
        for rarest in [rarest_met(fewest)]
        if rarest > 1  # fewer trials tell nothing of that
    ]
    if not open_:
        return [
            "Every stratum is tuned: more trials are expected to gain less than the noise of its AUC.",
            *unknown,
        ]
    among = next(iter(found.values())).among
    compares = f" The expected best of {among} compares all strata at equal tuning." if among else ""
    named = "; ".join(open_[:NAMED]) + (f"; and {len(open_) - NAMED} more" if len(open_) > NAMED else "")
    return [
        f"{len(open_)} of {len(found)} strata may be under-tuned ({named}): the second half of their trials "
        f"is expected to have raised their AUC by more than half a standard error, or fewer than {LEAST} "
        f"trials ended.{compares}",
        *unknown,
    ]
