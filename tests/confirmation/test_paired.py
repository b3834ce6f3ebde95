"""Models compared image by image: DeLong where images are independent, the bootstrap over patients always."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medfathom.confirmation.paired import bootstrap_aucs, bootstrap_p, compare_models
from medfathom.errors import ResultsError
from medfathom.metrics.auc import delong


def images(seed: int = 0, n: int = 200) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    signal = labels + rng.normal(size=n)
    scores = {"good": signal, "same": signal + 1e-3 * rng.normal(size=n), "chance": rng.normal(size=n)}
    return labels == 1, scores, np.arange(n) // 2


def test_models_on_the_same_images() -> None:
    positive, scores, _ = images()
    found = compare_models(positive, scores, resamples=500)
    pairs = {pair.models: pair for pair in found.pairs}
    differing, alike = pairs["chance", "good"], pairs["good", "same"]
    assert differing.delong is not None
    assert alike.delong is not None
    assert differing.delong.p_holm < 0.001
    assert differing.bootstrap.p_value < 0.01
    assert alike.delong.p_value > 0.01
    good = found.models["good"]
    assert good.ci95[0] < good.auc < good.ci95[1]


def test_the_json_form_has_the_keys_of_analysis_json() -> None:
    positive, scores, patients = images()
    found = [pair.to_dict() for pair in compare_models(positive, scores, resamples=200).pairs]
    json.dumps(found, allow_nan=False)
    keys = [
        "models",
        "difference",
        "delong_ci95",
        "delong_p",
        "bootstrap_ci95",
        "bootstrap_p",
        "bootstrap_p_holm",
    ]
    assert set(found[0]) == {*keys, "delong_p_holm"}
    by_patient = compare_models(positive, scores, patients.tolist(), resamples=200)
    assert by_patient.groups
    grouped = by_patient.pairs[0].to_dict()
    assert set(grouped) == set(keys)
    assert grouped["delong_ci95"] == [None, None]
    assert grouped["delong_p"] is None


def test_patients_with_several_images_leave_delong_out() -> None:
    positive, scores, patients = images()
    found = compare_models(positive, scores, patients.tolist(), resamples=200)
    assert found.groups
    assert all(pair.delong is None for pair in found.pairs)


def test_copies_of_patients_do_not_narrow_the_bootstrap() -> None:
    positive, scores, _ = images(n=80)
    table = np.array([scores["good"]])
    alone = bootstrap_aucs(positive, table, resamples=2_000, seed=1).std()
    groups = np.tile(np.arange(80), 5).tolist()
    five = bootstrap_aucs(np.tile(positive, 5), np.tile(table, 5), groups, resamples=2_000, seed=1).std()
    assert five == pytest.approx(alone, rel=0.1)


def test_delong_error_agrees_with_the_bootstrap() -> None:
    positive, scores, _ = images(n=400)
    table = np.array([scores["good"], scores["chance"]])
    found, samples = delong(positive, table.T), bootstrap_aucs(positive, table, resamples=3_000)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(samples.std(1), rel=0.1)


def test_bootstrap_of_every_resample_equals_sklearn() -> None:
    rng = np.random.default_rng(5)
    labels, groups = rng.integers(0, 2, 80), np.arange(80) % 25
    scores = np.round(rng.normal(size=(2, 80)) + labels, 1)
    found = bootstrap_aucs(labels == 1, scores, groups.tolist(), resamples=20, seed=7)
    draw = np.random.default_rng(7)
    for column in range(20):
        counts = np.bincount(draw.integers(0, 25, 25), minlength=25)[groups]
        for row in range(2):
            theirs = roc_auc_score(labels, scores[row], sample_weight=counts)
            assert found[row, column] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 0, 0, 1], [0, 1, 2, 3], "needs 2 images of the class"),
        ([0, 0, 1, 1], [0, 1, 2], r"the same images are needed, but got \[3, 4\] images"),
        ([0, 0, 1, 1], [0, 1, 2, float("nan")], "not finite"),
    ],
)
def test_predictions_that_cannot_be_compared(labels: list[int], scores: list[float], says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        compare_models(np.array(labels) == 1, {"one": np.array(scores, dtype=float)})


def test_a_bootstrap_p_is_never_zero() -> None:
    assert bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(10)) == 1
