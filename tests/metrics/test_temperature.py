"""Temperature scaling: never worse, undoes a known scaling, leaves the ranking of two classes alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.metrics.calibration import (
    as_array,
    calibrated,
    decide,
    fit_temperature,
    log_loss,
    thresholds_of,
)
from medfathom.metrics.classification import TaskKind

TASKS: list[TaskKind] = ["binary", "multiclass", "multilabel"]


def drawn(task: TaskKind, seed: int, scale: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels that come true as often as unscaled logits say, and the logits times `scale`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 2 if task == "binary" else 3))
    values = calibrated(task, logits, 1.0)
    if task == "multilabel":
        labels = (random.random(values.shape) < values).astype(np.uint8)
    elif task == "binary":
        labels = (random.random(n) < values[:, 0]).astype(np.int64)
    else:
        labels = (random.random((n, 1)) > values.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return labels, logits * scale


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_a_known_scaling_is_undone(task: TaskKind, scale: float) -> None:
    labels, logits = drawn(task, 0, scale)
    assert fit_temperature(task, labels, logits) == pytest.approx(scale, rel=0.12)


@given(st.integers(0, 1000), st.sampled_from(TASKS), st.floats(0.05, 20))
def test_never_worse_than_none(seed: int, task: TaskKind, scale: float) -> None:
    labels, logits = drawn(task, seed, scale, n=20)
    temperature = fit_temperature(task, labels, logits)
    assert 0.04 < temperature < 21
    scaled = log_loss(task, labels, calibrated(task, logits, temperature))
    assert scaled <= log_loss(task, labels, calibrated(task, logits, 1.0)) + 1e-12


def test_thresholds_of_a_missing_class_are_none() -> None:
    values = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    found = thresholds_of("multiclass", np.array([2, 0, 0]), values)
    assert found[1] is None
    assert found[2] == pytest.approx(0.5)
    assert np.isnan(as_array(found)[1])


def test_a_class_without_a_threshold_is_decided_at_one_half() -> None:
    values = np.array([[0.5, 0.5], [0.7, 0.4]])
    assert decide(values, [0.6, None]).tolist() == [[False, True], [True, False]]
