"""Early stopping of a cross-validation: in the first fold as the scheduler says, then between folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

P_THRESHOLD = 0.1
"""As Optuna's WilcoxonPruner has it. Four folds are the fewest on which a trial can be stopped."""


def fold_aucs(curve: Mapping[int, float], epochs: int) -> NDArray[np.float64]:
    """The AUC of each fold that ended, from a curve whose values are means over the folds so far."""
    count = max(curve, default=0) // epochs
    sums = [0.0, *(curve[number * epochs] * number for number in range(1, count + 1))]
    return np.round(np.diff(np.array(sums, dtype=np.float64)), 9).astype(np.float64)


def stops_between_folds(
    rule: Callable[[Mapping[int, Mapping[int, float]], int, int], bool],
    curves: Mapping[int, Mapping[int, float]],
    number: int,
    epoch: int,
    *,
    epochs: int,
    trainings: int,
) -> bool:
    """Whether a trial is stopped after an epoch.

    Every trial is stopped with its first fold: which go on, `study.finalists` decides. A finalist is stopped
    at a fold's end where its folds so far are worse than the same folds of the best complete one, by
    Wilcoxon's signed-rank test, one-sided at 0.1, and so is their mean: the test of Optuna's WilcoxonPruner.

    Args:
        rule: the definition's scheduler, for the first fold.
        curves: of all that are compared.
        number: of the trial.
        epoch: counted over folds.
        epochs: of a fold.
        trainings: folds of a complete trial.
    """
    if epoch < epochs:
        # A finalist has its first fold from an earlier trial, which is among the curves: it counts once.
        firsts = {other: curve for other, curve in curves.items() if max(curve) <= epochs}
        return rule(firsts, number, epoch)
    if epoch == epochs:
        return True
    if epoch % epochs or epoch == epochs * trainings:
        return False
    whole = [c for other, c in curves.items() if other != number and epochs * trainings in c]
    if not whole:
        return False
    best = max(whole, key=lambda curve: curve[epochs * trainings])
    own = fold_aucs(curves[number], epochs)
    return is_worse(own, fold_aucs(best, epochs)[: len(own)])


def is_worse(own: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether AUCs are worse than others on the same folds."""
    from scipy.stats import wilcoxon  # noqa: PLC0415  takes a second

    difference = own - other
    if difference.mean() >= 0:
        return False
    return bool(wilcoxon(difference, alternative="less", zero_method="zsplit").pvalue < P_THRESHOLD)


def reason(epoch: int, epochs: int, trainings: int, scheduler: str) -> str:
    """Why a trial was stopped after an epoch."""
    if trainings == 1 or epoch < epochs:
        return f"stopped by {scheduler} at epoch {epoch}"
    if epoch == epochs:
        return f"trained on its first fold, 1 of {trainings}: the best trials continue as later trials"
    fold = f"stopped after fold {epoch // epochs} of {trainings}"
    return f"{fold}: worse than the best trial on the same folds (Wilcoxon)"
