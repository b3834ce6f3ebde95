"""Early stopping between folds: Optuna's own test, and only at folds' ends."""

from __future__ import annotations

from functools import partial

import numpy as np
import optuna
import pytest
from optuna.pruners import WilcoxonPruner

from medfathom.study.between_folds import P_THRESHOLD, fold_aucs, is_worse, reason, stops_between_folds
from medfathom.study.stopping import halving_stops

E, K = 3, 5


def curve(aucs: list[float]) -> dict[int, float]:
    """As a trial tells it: each epoch the mean over folds so far; within a fold the AUC only rises."""
    told = {}
    for fold in range(len(aucs)):
        for epoch in range(1, E + 1):
            latest = aucs[fold] - 0.1 * (E - epoch)
            told[fold * E + epoch] = float(np.mean([*aucs[:fold], latest]))
    return told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_it_is_the_test_of_optunas_wilcoxon_pruner() -> None:
    random = np.random.default_rng(0)
    stopped = 0
    for _ in range(30):
        best = np.round(random.uniform(0.7, 0.9, 10), 2)
        own = np.round(best + random.normal(-0.02, 0.04, 10), 2)
        count = int(random.integers(2, 11))
        study = optuna.create_study(direction="maximize", pruner=WilcoxonPruner(p_threshold=P_THRESHOLD))
        trial = study.ask()
        for fold, auc in enumerate(best):
            trial.report(auc, fold)
        study.tell(trial, float(best.mean()))
        later = study.ask()
        for fold, auc in enumerate(own[:count]):
            later.report(auc, fold)
        if own[:count].mean() < best[:count].mean() and own[:count].mean() >= best.mean():
            continue  # Optuna compares the mean so far with the best's over all its folds
        if own[:count].mean() >= best[:count].mean():
            assert not is_worse(own[:count], best[:count])
            continue
        assert is_worse(own[:count], best[:count]) == later.should_prune()
        stopped += later.should_prune()
    assert stopped > 5


def test_a_curve_gives_its_folds_back() -> None:
    aucs = [0.9, 0.7, 0.81, 0.9]
    assert fold_aucs(curve(aucs), E) == pytest.approx(aucs)
    assert fold_aucs({e: a for e, a in curve(aucs).items() if e <= 2 * E + 1}, E) == pytest.approx(aucs[:2])


def decided(curves: dict[int, dict[int, float]], number: int, epoch: int) -> bool:
    seen = {**curves, number: {e: a for e, a in curves[number].items() if e <= epoch}}
    return stops_between_folds(lambda *_: False, seen, number, epoch, epochs=E, trainings=K)


def test_trials_end_with_the_first_fold_and_finalists_by_comparison() -> None:
    curves = {0: curve([0.9] * K), 1: curve([0.8, 0.85, 0.8, 0.85, 0.8]), 2: curve([0.95] * K)}
    assert [e for e in range(1, E * K + 1) if decided(curves, 1, e)] == [3, 12]
    assert [e for e in range(1, E * K + 1) if decided(curves, 2, e)] == [3]
    alone = {1: curves[1], 3: curve([0.9])}  # none is complete
    assert [e for e in range(1, E * K + 1) if decided(alone, 1, e)] == [3]


def test_the_first_fold_is_stopped_as_the_scheduler_says() -> None:
    asked: list[int] = []

    def rule(_: object, number: int, epoch: int) -> bool:
        asked.append(epoch)
        return epoch == 2

    stops = [
        stops_between_folds(rule, {0: curve([0.9])}, 0, e, epochs=E, trainings=K) for e in range(1, E + 1)
    ]
    assert stops == [False, True, True]
    assert asked == [1, 2]


def test_a_finalists_first_fold_counts_once() -> None:
    """It is that of an earlier trial: counted twice, the best trials would stop others wrongly."""
    rule = partial(halving_stops, grace=1, factor=3)
    firsts = {number: dict.fromkeys(range(1, E + 1), auc) for number, auc in enumerate([0.6, 0.7, 0.8, 0.9])}
    late = {6: {1: 0.81}}
    finalists = {4: firsts[3] | {E + 1: 0.9}, 5: firsts[2] | {E + 1: 0.8}}
    alone = stops_between_folds(rule, firsts | late, 6, 1, epochs=E, trainings=K)
    beside = stops_between_folds(rule, firsts | finalists | late, 6, 1, epochs=E, trainings=K)
    assert (alone, beside) == (False, False)


def test_the_reason_says_how_far_it_came() -> None:
    assert reason(2, E, K, "asha") == "stopped by asha at epoch 2"
    assert reason(2, 5, 1, "asha") == "stopped by asha at epoch 2"
    assert (
        reason(3, E, K, "asha")
        == "trained on its first fold, 1 of 5: the best trials continue as later trials"
    )
    assert "after fold 4 of 5" in reason(12, E, K, "asha")
