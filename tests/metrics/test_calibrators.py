"""Isotonic regression and Venn-Abers: against their definitions, and what they do to bad probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from medfathom.metrics.calibrators import compare_calibrations, fit_calibration, log_odds
from medfathom.metrics.classification import TaskKind, log_loss
from medfathom.metrics.probabilities import probabilities
from medfathom.metrics.rules import CALIBRATIONS, CalibrationKind
from medfathom.metrics.unknown import UNKNOWN
from medfathom.metrics.venn_abers import venn_abers_steps

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=14)


def by_definition(scores: list[int], present: list[bool], new: float) -> float:
    """Isotonic regression with the new score once as a negative and once as a positive."""
    found = []
    for label in (0.0, 1.0):
        x, y = [*map(float, scores), new], [*map(float, present), label]
        found.append(float(IsotonicRegression().fit(x, y).predict([new])[0]))
    return found[1] / (1 - found[0] + found[1])


@given(scored)
def test_venn_abers_is_two_isotonic_regressions_for_each_new_score(made: list[tuple[int, bool]]) -> None:
    scores, present = [s for s, _ in made], [p for _, p in made]
    distinct, steps = venn_abers_steps(np.array(scores, float), np.array(present))
    asked = np.arange(-0.5, 7.1, 0.5)
    place = np.searchsorted(distinct, asked, "left") + np.searchsorted(distinct, asked, "right")
    wanted = [by_definition(scores, present, float(new)) for new in asked]
    np.testing.assert_allclose(steps[place], wanted, atol=1e-9)
    assert ((steps >= 0) & (steps <= 1)).all()


def made(task: TaskKind, n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits of a network that is far too sure of itself in a way that no temperature mends."""
    random = np.random.default_rng(seed)
    if task == "multilabel":
        logits = 2 * random.normal(size=(n, 3))
        labels = (random.random((n, 3)) < probabilities(task, logits)).astype(np.uint8)
        labels[:40, 0] = UNKNOWN
        return labels, np.sign(logits) * np.abs(logits) ** 3 + 1.5
    k = 2 if task == "binary" else 4
    logits = 1.5 * random.normal(size=(n, k))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    return labels, np.sign(logits) * np.abs(logits) ** 3 + 1.5 * np.arange(k)


TASKS: tuple[TaskKind, ...] = ("binary", "multiclass", "multilabel")
CURVED: tuple[CalibrationKind, ...] = ("isotonic", "venn_abers")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", CURVED)
def test_what_no_temperature_mends_is_mended_on_other_images(task: TaskKind, kind: CalibrationKind) -> None:
    labels, logits = made(task)
    new_labels, new_logits = made(task, seed=1)
    by_temperature = fit_calibration("temperature", task, labels, logits)(task, new_logits)
    values = fit_calibration(kind, task, labels, logits)(task, new_logits)
    assert values.shape == by_temperature.shape
    assert log_loss(task, new_labels, values) < log_loss(task, new_labels, by_temperature) - 0.01
    assert ((values > 0) & (values < 1)).all()
    if task == "multiclass":
        np.testing.assert_allclose(values.sum(axis=1), 1)


@pytest.mark.parametrize("kind", CURVED)
def test_higher_log_odds_never_get_a_lower_probability(kind: CalibrationKind) -> None:
    labels, logits = made("binary")
    fit = fit_calibration(kind, "binary", labels, logits)
    grid = np.stack([np.zeros(999), np.linspace(-40, 40, 999)], axis=1)
    assert (np.diff(fit("binary", grid)[:, 0]) >= -1e-9).all()


@pytest.mark.parametrize("kind", CURVED)
def test_a_class_without_both_kinds_keeps_the_temperature(kind: CalibrationKind) -> None:
    labels, logits = made("multiclass", n=90)
    labels[labels == 3] = 0
    fit = fit_calibration(kind, "multiclass", labels, logits)
    assert [bool(curve.y) for curve in fit.curves] == [True, True, True, False]
    assert np.isfinite(fit("multiclass", logits)).all()


def test_the_comparison_finds_what_helps_and_never_cuts_a_patient() -> None:
    labels, logits = made("binary")
    groups = np.arange(len(labels)) // 3
    scores = {each.kind: each for each in compare_calibrations("binary", labels, logits, groups)}
    assert list(scores) == ["none", *CALIBRATIONS]
    assert scores["temperature"].log_loss < scores["none"].log_loss
    assert scores["isotonic"].log_loss < scores["temperature"].log_loss
    assert scores["venn_abers"].calibration_error < scores["none"].calibration_error
    assert compare_calibrations("binary", labels[:9], logits[:9]) == []
    assert compare_calibrations("binary", np.zeros(60, int), logits[:60]) == []


def test_log_odds_of_several_classes_are_those_of_each_against_the_rest() -> None:
    _, logits = made("multiclass", n=20)
    values = probabilities("multiclass", logits / 3)
    np.testing.assert_allclose(log_odds("multiclass", logits / 3), np.log(values) - np.log1p(-values))
