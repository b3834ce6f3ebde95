from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from statsmodels.stats.proportion import proportion_confint

from medfathom.metrics.classification import (
    average_precision_score,
    brier_loss,
    calibration_error,
    choose_thresholds,
    evaluate,
)
from medfathom.metrics.probabilities import num_outputs, probabilities
from medfathom.metrics.shares import effective_trials, wilson_interval
from score_columns import labelled_columns


@given(labelled_columns())
def test_average_precision_equals_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = data
    expected = [
        sklearn.metrics.average_precision_score(labels[:, c], scores[:, c]) for c in range(labels.shape[1])
    ]
    np.testing.assert_allclose(average_precision_score(labels, scores), expected, rtol=0, atol=1e-12)


@given(labelled_columns())
def test_no_threshold_beats_the_chosen_one(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = data
    chosen = choose_thresholds(labels, scores)
    for column in range(labels.shape[1]):
        fpr, tpr, _ = sklearn.metrics.roc_curve(labels[:, column], scores[:, column])
        called = scores[:, column] >= chosen[column]
        youden = called[labels[:, column]].mean() - called[~labels[:, column]].mean()
        assert youden == pytest.approx((tpr - fpr).max(), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 9), (1, 9), (5, 9), (9, 9), (81, 263), (15, 148)])
def test_wilson_equals_statsmodels(k: int, n: int) -> None:
    value, low, high = wilson_interval(k, n)
    assert (float(low), float(high)) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    assert float(value) == k / n
    assert 0 <= float(low) <= float(value) <= float(high) <= 1


def test_wilson_by_newcombe() -> None:
    """Newcombe, Statistics in Medicine 1998, table I, method 3: 81/263 and 15/148."""
    assert wilson_interval(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148)[1:] == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_no_trial_has_no_proportion() -> None:
    assert np.isnan(wilson_interval(0, 0)).all()


DECIDED = ("sensitivity", "specificity", "precision", "accuracy")


def decided(right: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> dict[str, float]:
    called = np.where(right, labels, 1 - labels)[:, None].astype(float)
    thresholds = np.array([0.5])
    return evaluate("binary", labels, called, ["no", "yes"], thresholds=thresholds, groups=groups).overall


def test_groups_of_one_image_change_no_interval() -> None:
    random = np.random.default_rng(6)
    labels, right = random.integers(0, 2, 200), random.random(200) < 0.8
    plain, grouped = decided(right, labels, None), decided(right, labels, np.arange(200))
    for name in DECIDED:
        for end in ("_ci_low", "_ci_high"):
            assert grouped[name + end] == pytest.approx(plain[name + end], abs=1e-12)


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_images_that_are_decided_alike_count_once(share: float) -> None:
    """Twenty patients of each class; ten images of a patient tell no more than one.

    Student's quantile on the patients, which may have correlated by less, adds up to .03 at either end.
    """
    patients = np.arange(40)
    right = patients // 2 < 20 * share
    once = decided(right, patients % 2, None)
    groups = np.repeat(patients, 10)
    tenfold = decided(right[groups], groups % 2, groups)
    for name in DECIDED:
        assert tenfold[name] == once[name]
        for end, sign in (("_ci_low", -1), ("_ci_high", 1)):
            assert -0.006 < sign * (tenfold[name + end] - once[name + end]) < 0.03


def test_effective_trials_by_hand() -> None:
    good, tried = np.array([[2.0, 0.0, 1.0, 1.0]]), np.full((1, 4), 2.0)
    effective, quantile = effective_trials(good, tried)
    # Share 1/2; groups are off by 1, -1, 0, 0: variance 4/3 * 2 / 64 = 1/24, decided by 2 groups. In general
    # (correlation 1/2) 1/4 over 2 * 4 * 2 / 3 trials = 3/64, which counts for 1/4 * 1/2 group.
    drawn = (2 / 24 + 3 / 64 / 8) / (2 + 1 / 8)
    assert effective == pytest.approx([1 / 4 / drawn])
    # Squares 1/2, 1/2, 0, 0 of the whole have 2 / (1/2 - 1/4) = 8 degrees of freedom; groups leave 3.
    assert quantile == pytest.approx([3.182], rel=0.012)
    assert effective_trials(tried, tried)[0] == pytest.approx([4.0])
    assert effective_trials(np.array([[1.0, 0, 0]]), np.array([[4.0, 0, 0]]))[0] == pytest.approx([1.0])
    assert effective_trials(np.zeros((1, 3)), np.zeros((1, 3)))[0] == [0.0]


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_intervals_by_groups_cover_the_true_shares(alike: float) -> None:
    """Forty patients of ten images, 80 % decided rightly. By images alone: 46 to 69 % where any are alike."""
    groups = np.repeat(np.arange(40), 10)
    labels = groups % 2
    random = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        by_patient = random.random(400) < alike**0.5
        right = np.where(by_patient, (random.random(40) < 0.8)[groups], random.random(400) < 0.8)
        found = decided(right, labels, groups)
        covered.append([found[f"{name}_ci_low"] <= 0.8 <= found[f"{name}_ci_high"] for name in DECIDED])
    assert (np.mean(covered, axis=0) >= 0.92).all()


def test_brier_loss_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, p = random.integers(0, 2, 200), random.random((200, 1))
    assert brier_loss("binary", labels[:, None] == 1, p) == pytest.approx(
        sklearn.metrics.brier_score_loss(labels, p[:, 0])
    )
    classes, q = random.integers(0, 4, 200), random.dirichlet(np.ones(4), 200)
    expected = sklearn.metrics.brier_score_loss(classes, q, labels=[0, 1, 2, 3], scale_by_half=False)
    assert brier_loss("multiclass", classes[:, None] == np.arange(4), q) == pytest.approx(expected)


def test_calibration_error_of_known_probabilities() -> None:
    p = np.repeat([0.1, 0.5, 1.0], 10)[:, None]
    came_true = np.array([1] * 1 + [0] * 9 + [1] * 8 + [0] * 2 + [1] * 10, dtype=bool)[:, None]
    assert calibration_error("binary", came_true, p) == pytest.approx(0.3 / 3)
    two = np.array([[0.7, 0.3], [0.3, 0.7]])
    assert calibration_error("multiclass", np.eye(2, dtype=bool), two) == pytest.approx(0.3)


def test_binary_evaluation_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    p = np.clip(0.3 * labels + 0.6 * random.random(300), 0, 1)[:, None]
    result = evaluate("binary", labels, p, ["healthy", "ill"])
    called = p[:, 0] >= result.overall["threshold"]
    assert result.overall["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels, p[:, 0]), abs=1e-12)
    assert result.overall["sensitivity"] == sklearn.metrics.recall_score(labels, called)
    assert result.overall["specificity"] == sklearn.metrics.recall_score(1 - labels, ~called)
    assert result.overall["precision"] == sklearn.metrics.precision_score(labels, called)
    assert result.overall["accuracy"] == sklearn.metrics.accuracy_score(labels, called)
    assert result.per_class == {}
    assert result.undefined == []
    for name in ("auc", "sensitivity", "specificity", "precision", "accuracy"):
        assert (
            result.overall[f"{name}_ci_low"] <= result.overall[name] <= result.overall[f"{name}_ci_high"]
        ), name


def test_multiclass_auc_is_macro_one_vs_rest() -> None:
    random = np.random.default_rng(1)
    labels, p = random.integers(0, 3, 200), random.dirichlet(np.ones(3), 200)
    result = evaluate("multiclass", labels, p, ["a", "b", "c"])
    expected = sklearn.metrics.roc_auc_score(labels, p, multi_class="ovr", average="macro")
    assert result.overall["auc"] == pytest.approx(expected, abs=1e-12)
    assert result.overall["accuracy"] == sklearn.metrics.accuracy_score(labels, p.argmax(axis=1))
    assert list(result.per_class) == ["a", "b", "c"]
    mean = np.mean([result.per_class[name]["auc"] for name in "abc"])
    assert result.overall["auc"] == pytest.approx(mean, abs=1e-12)
    assert result.overall["auc_ci_low"] < mean < result.overall["auc_ci_high"]


def test_multilabel_auc_is_the_mean() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, (150, 4)).astype(np.uint8)
    p = np.clip(0.2 * labels + 0.7 * random.random((150, 4)), 0, 1)
    result = evaluate("multilabel", labels, p, list("wxyz"))
    assert result.overall["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels, p), abs=1e-12)
    assert result.per_class["z"]["average_precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(labels[:, 3], p[:, 3])
    )


def test_a_missing_class_is_undefined_and_said_so() -> None:
    random = np.random.default_rng(3)
    labels, p = random.integers(0, 2, 50), random.dirichlet(np.ones(3), 50)
    result = evaluate("multiclass", labels, p, ["drusen", "fluid", "none"])
    assert "auc" not in result.per_class["none"]
    assert "sensitivity" not in result.per_class["none"]
    assert result.undefined == ["auc of class 'none' is undefined: no image of the split is of it"]
    defined = np.mean([result.per_class[name]["auc"] for name in ("drusen", "fluid")])
    assert result.overall["auc"] == pytest.approx(defined, abs=1e-12)
    everything = [v for values in (result.overall, *result.per_class.values()) for v in values.values()]
    assert np.isfinite(everything).all()


def test_thresholds_given_are_kept() -> None:
    labels, p = np.array([0, 0, 1, 1]), np.array([[0.1], [0.6], [0.4], [0.9]])
    result = evaluate("binary", labels, p, ["no", "yes"], thresholds=np.array([0.95]))
    assert result.overall["sensitivity"] == 0.0
    assert result.overall["specificity"] == 1.0
    assert "precision" not in result.overall  # nothing was called positive


def test_rare_labels_keep_the_interval_of_the_mean() -> None:
    random = np.random.default_rng(5)
    labels, groups = np.eye(60, 3, dtype=np.uint8), np.arange(60) // 3
    result = evaluate("multilabel", labels, random.random((60, 3)), list("abc"), groups=groups)
    assert result.overall["auc_ci_low"] < result.overall["auc"] < result.overall["auc_ci_high"]
    assert all(values["auc_ci_low"] < values["auc_ci_high"] for values in result.per_class.values())
    assert "Newcombe by numbers of groups" in result.auc_interval


def test_probabilities_of_logits() -> None:
    logits = np.array([[2.0, -1.0], [-800.0, 800.0]], dtype=np.float32)
    binary = probabilities("binary", logits)
    assert binary[:, 0] == pytest.approx([1 / (1 + np.exp(3)), 1.0])
    softmax = probabilities("multiclass", logits)
    np.testing.assert_allclose(softmax.sum(axis=1), 1)
    np.testing.assert_allclose(softmax[:, 1], binary[:, 0])
    np.testing.assert_allclose(probabilities("multilabel", logits)[0], 1 / (1 + np.exp([-2.0, 1.0])))
    assert (num_outputs("binary", 2), num_outputs("multilabel", 5)) == (2, 5)
