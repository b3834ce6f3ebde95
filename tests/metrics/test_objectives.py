"""What a search looks for beside the AUC, as a number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_curve

from medfathom.metrics.classification import evaluate
from medfathom.metrics.objectives import objective_value, sensitivity_at
from medfathom.metrics.rules import is_auc, is_loss, objective_title
from score_columns import labelled_columns


@given(labelled_columns(), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_the_sensitivity_is_that_of_scikit_learns_roc_curve(
    made: tuple[np.ndarray, np.ndarray], specificity: float
) -> None:
    flags, scores = made
    wanted = []
    for column in range(flags.shape[1]):
        false, true, _ = roc_curve(flags[:, column], scores[:, column], drop_intermediate=False)
        wanted.append(true[1 - false >= specificity - 1e-12].max())
    assert sensitivity_at(specificity, flags, scores) == pytest.approx(np.mean(wanted))


def test_objectives_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    scores = 1 / (1 + np.exp(-random.normal(size=200) - labels))[:, None]
    found = evaluate("binary", labels, scores, ["well", "ill"])
    flags = (labels == 1)[:, None]
    auprc = objective_value("auprc", found, flags, scores)
    assert auprc == pytest.approx(average_precision_score(labels, scores[:, 0]))
    assert objective_value("log_loss", found, flags, scores) == pytest.approx(log_loss(labels, scores[:, 0]))
    assert objective_value("auc", found, flags, scores) is None
    assert objective_value("unit_auc", found, flags, scores) is None


def test_a_class_that_is_absent_is_left_out() -> None:
    flags = np.array([[True, False], [False, False], [True, False]])
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.8, 0.2]])
    assert sensitivity_at(0.9, flags, scores) == 1.0
    assert sensitivity_at(0.9, flags[:, 1:], scores[:, 1:]) is None


def test_their_names() -> None:
    assert objective_title("sensitivity_at_specificity:0.95") == "sensitivity at specificity 0.95"
    assert [is_auc(name) for name in ("auc", "unit_auc", "auprc")] == [True, True, False]
    assert [is_loss(name) for name in ("auc", "auprc", "log_loss")] == [False, False, True]
