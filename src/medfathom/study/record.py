"""The record of a stored trial: where its user attributes become named values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.trial.record import TrialRecord

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def record_of(trial: FrozenTrial) -> TrialRecord:
    """What a trial left. None where an attribute is missing: the trial failed early, or few were read.

    Args:
        trial: of a study of this or an earlier version.
    """
    return TrialRecord.of(trial.user_attrs)


def auc_of(trial: FrozenTrial) -> float | None:
    """A trial's validation AUC; None: it has none.

    Optuna's own `value` raises where a study has several objectives, and is another number where the AUC is
    not what the study looks for.
    """
    if trial.user_attrs.get("objective_value") is None:
        return value_of(trial)
    auc: float | None = trial.user_attrs.get("auc") if trial.values else None
    return auc


def value_of(trial: FrozenTrial) -> float | None:
    """What a trial reached of the first of its study's objectives on validation; None: it has none."""
    return trial.values[0] if trial.values else None
