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
    """A trial's validation AUC, the first of its study's objectives; None: it has none.

    Optuna's own `value` raises where a study has several objectives.
    """
    return trial.values[0] if trial.values else None
