"""Predictions of a case's images combined: against numbers worked out by hand, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.cases import cases_of, combine_logits
from medfathom.metrics.classification import TaskKind
from medfathom.metrics.probabilities import probabilities
from medfathom.units import Combine

CLOSE = 1e-12
"""Absolute, of probabilities in double precision."""


def binary_logits(values: list[float]) -> np.ndarray:
    """Two logits whose softmax gives these probabilities of the second class."""
    p = np.array(values)
    return np.stack([np.log(1 - p), np.log(p)], axis=1)


def combined(task: TaskKind, logits: np.ndarray, member: list[int], how: Combine) -> np.ndarray:
    return probabilities(task, combine_logits(task, logits, np.array(member), how))


def test_binary_cases_by_hand() -> None:
    logits = binary_logits([0.2, 0.6, 0.9, 0.1])
    # Case 0 has images 0, 1 and 3; case 1 has image 2.
    member = [0, 0, 1, 0]
    assert combined("binary", logits, member, "mean")[:, 0] == pytest.approx([0.3, 0.9], abs=CLOSE)
    assert combined("binary", logits, member, "max")[:, 0] == pytest.approx([0.6, 0.9], abs=CLOSE)


def test_the_auc_of_cases_by_hand() -> None:
    """Each positive image beats 3 of 4 others. Case a beats both others by mean, and only c by max."""
    names = ["a", "a", "b", "b", "c", "c"]
    labels = np.array([1, 1, 0, 0, 0, 0])
    logits = binary_logits([0.5, 0.5, 0.6, 0.1, 0.45, 0.4])
    found = cases_of(names)
    assert roc_auc_score(labels == 1, probabilities("binary", logits))[0] == pytest.approx(6 / 8)
    aucs = {
        how: float(
            roc_auc_score(labels[found.first] == 1, combined("binary", logits, list(found.member), how))[0]
        )
        for how in ("mean", "max")
    }
    assert aucs == {"mean": 1.0, "max": 0.5}


def test_multiclass_cases_by_hand() -> None:
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])
    mean = combined("multiclass", logits, [0, 0, 1], "mean")
    assert mean == pytest.approx(np.array([[0.4, 0.25, 0.35], [0.2, 0.2, 0.6]]), abs=CLOSE)
    largest = combined("multiclass", logits, [0, 0, 1], "max")
    assert largest[0] == pytest.approx(np.array([0.7, 0.3, 0.6]) / 1.6, abs=CLOSE)


def test_multilabel_cases_by_hand() -> None:
    p = np.array([[0.2, 0.9], [0.6, 0.5]])
    logits = np.log(p / (1 - p))
    assert combined("multilabel", logits, [0, 0], "mean")[0] == pytest.approx([0.4, 0.7], abs=CLOSE)
    assert combined("multilabel", logits, [0, 0], "max")[0] == pytest.approx([0.6, 0.9], abs=CLOSE)


def test_noisy_or_by_hand() -> None:
    """1 - (1 - 0.2)(1 - 0.6)(1 - 0.1) = 0.712."""
    logits = binary_logits([0.2, 0.6, 0.9, 0.1])
    found = combined("binary", logits, [0, 0, 1, 0], "noisy_or")[:, 0]
    assert found == pytest.approx([0.712, 0.9], abs=CLOSE)
    p = np.array([[0.2, 0.9], [0.6, 0.5]])
    labels = combined("multilabel", np.log(p / (1 - p)), [0, 0], "noisy_or")[0]
    assert labels == pytest.approx([0.68, 0.95], abs=CLOSE)
    classes = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    each = np.array([1 - 0.3 * 0.9, 1 - 0.8 * 0.7, 1 - 0.9 * 0.4])
    assert combined("multiclass", classes, [0, 0], "noisy_or")[0] == pytest.approx(
        each / each.sum(), abs=CLOSE
    )


def test_noisy_or_of_certain_images_is_finite_and_ranked() -> None:
    """Of two images at p = e^-900 each, which is 0 in double precision, the logarithm is still known."""
    for z in (-900.0, 900.0):
        logits = np.array([[0.0, z], [0.0, z], [0.0, z - 5], [0.0, z - 5]])
        first, second = combine_logits("binary", logits, np.array([0, 0, 1, 1]), "noisy_or")
        assert np.isfinite([first, second]).all()
        assert first[1] - first[0] > second[1] - second[0] + 4
    certain = combine_logits(
        "multiclass", np.array([[2000.0, 0, 0], [0.0, 0, 0]]), np.array([0, 0]), "noisy_or"
    )
    assert np.isfinite(certain).all()


def test_attention_by_hand() -> None:
    """Scores ln 3 and 0 weigh the images 3 : 1; the second case has one image."""
    logits = np.array([[4.0, 0.0, np.log(3.0)], [0.0, 8.0, 0.0], [1.0, 2.0, 5.0]])
    found = combine_logits("binary", logits, np.array([0, 0, 1]), "attention")
    assert found == pytest.approx(np.array([[3.0, 2.0], [1.0, 2.0]]), abs=CLOSE)


def test_confident_cases_are_still_ranked() -> None:
    """Probabilities within 1e-20 of 1 do not tie."""
    logits = np.array([[0.0, 50.0], [0.0, 52.0], [0.0, 60.0], [0.0, 62.0]])
    for how in ("mean", "max", "noisy_or"):
        first, second = combine_logits("binary", logits, np.array([0, 0, 1, 1]), how)
        assert second[1] - second[0] > first[1] - first[0] + 5


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("how", ["mean", "max", "noisy_or", "attention"])
@given(data=st.data())
def test_a_case_of_one_image_is_that_image(task: TaskKind, how: Combine, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    outputs = 2 if task == "binary" else 3
    logits = random.normal(0, 5, (data.draw(st.integers(1, 8)), outputs))
    given_logits = np.hstack([logits, random.normal(size=(len(logits), 1))]) if how == "attention" else logits
    found = combined(task, given_logits, list(range(len(logits))), how)
    assert found == pytest.approx(probabilities(task, logits), abs=1e-9)


@pytest.mark.parametrize("how", ["mean", "max", "noisy_or", "attention"])
@given(data=st.data())
def test_neither_the_order_of_images_nor_copies_of_a_case_change_it(
    how: Combine, data: st.DataObject
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = data.draw(st.integers(2, 12))
    names = [str(k) for k in random.integers(0, 4, n)]
    logits = random.normal(0, 3, (n, 4 if how == "attention" else 3))
    order = random.permutation(n)
    first, second = cases_of(names), cases_of([names[i] for i in order])
    mine = combine_logits("multiclass", logits, first.member, how)
    theirs = combine_logits("multiclass", logits[order], second.member, how)
    by_name = dict(zip(second.names.tolist(), theirs, strict=True))
    for name, values in zip(first.names.tolist(), mine, strict=True):
        assert values == pytest.approx(by_name[name], abs=1e-9)
    if how == "noisy_or":  # each image counts as seen independently: copies do change it
        return
    twice = combine_logits("multiclass", np.vstack([logits, logits]), np.tile(first.member, 2), how)
    assert twice == pytest.approx(mine, abs=1e-9)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20))
def test_cases_are_named_in_the_order_of_their_first_images(names: list[str]) -> None:
    found = cases_of(names)
    assert found.names.tolist() == list(dict.fromkeys(names))
    assert found.names[found.member].tolist() == names
    assert [names[i] for i in found.first] == found.names.tolist()
    assert found.sizes.sum() == len(names)
