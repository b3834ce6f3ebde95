"""Which models may have the highest AUC: against simulation, where the truth is known."""

from __future__ import annotations

import numpy as np

from medfathom.metrics.ties import may_be_best


def drawn(
    random: np.random.Generator, models: int, patients: int, each: int, gains: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Labels, scores of correlated models, groups: `each` images of a patient are alike but for a little."""
    label = np.repeat(random.random(patients) < 0.4, each)
    shared = np.repeat(random.standard_normal(patients), each)
    gains = np.full(models, 1.5) if gains is None else gains
    scores = []
    for gain in gains:
        own = np.repeat(random.standard_normal(patients), each) + 0.2 * random.standard_normal(len(label))
        scores.append((shared + 0.7 * own + gain * label)[:, None])
    return label[:, None], scores, np.repeat(np.arange(patients), each)


def test_a_model_as_good_as_the_best_is_left_out_in_five_percent_at_most() -> None:
    """All 10 are equal, so each of them is the best; 200 data sets of 100 images: 5 % + 3 standard errors."""
    random = np.random.default_rng(0)
    out = [1 - may_be_best(*drawn(random, 10, 100, 1)[:2]).mean() for _ in range(200)]
    assert 0.01 < np.mean(out) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_images_of_one_patient_count_together() -> None:
    random = np.random.default_rng(1)
    together, apart = [], []
    for _ in range(60):
        label, scores, groups = drawn(random, 8, 40, 6)
        together.append(1 - may_be_best(label, scores, groups).mean())
        apart.append(1 - may_be_best(label, scores).mean())
    assert np.mean(together) <= 0.06
    assert np.mean(apart) > 0.2, "six alike images of a patient taken for six independent ones"


def test_a_clearly_worse_model_is_told_apart() -> None:
    random = np.random.default_rng(2)
    label, scores, _ = drawn(random, 3, 600, 1, np.array([1.5, 1.5, 0.3]))
    assert may_be_best(label, scores).tolist() == [True, True, False]


def test_models_that_rank_alike_are_tied_and_perfect_ones_too() -> None:
    random = np.random.default_rng(3)
    label, (scores, *_), _ = drawn(random, 1, 50, 1)
    assert may_be_best(label, [scores, 2 * scores + 1, np.exp(scores)]).all()
    perfect = label.astype(float)
    assert may_be_best(label, [perfect, perfect * 9]).all()
    assert may_be_best(label, [perfect, 1 - perfect]).tolist() == [True, False]


def test_several_classes_are_judged_by_their_mean() -> None:
    random = np.random.default_rng(4)
    parts = [drawn(random, 3, 400, 1, np.array([2.0, 2.0, 0.5])) for _ in range(2)]
    label = np.hstack([part[0] for part in parts])
    scores = [np.hstack([part[1][m] for part in parts]) for m in range(3)]
    assert may_be_best(label, scores).tolist() == [True, True, False]


def test_one_image_of_a_class_tells_nothing_apart() -> None:
    label = np.array([True, False, False])[:, None]
    good, bad = np.array([[0.9], [0.1], [0.2]]), np.array([[0.1], [0.5], [0.2]])
    assert may_be_best(label, [good, bad]).all()
