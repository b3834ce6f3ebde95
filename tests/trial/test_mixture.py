"""How several data sets are mixed: images of each in an epoch, batches, and the loss of a batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfathom.definitions.space import TrialParams
from medfathom.metrics.unknown import UNKNOWN
from medfathom.trial.batching import epoch_batches
from medfathom.trial.losses import Loss
from medfathom.trial.mixture import JointLoss, Member, Mixture, images_of_each

MEMBERS = [
    Member("multiclass", 1, slice(0, 3)),
    Member("multilabel", 2, slice(3, 5)),
    Member("binary", 1, slice(5, 7)),
]
SIZES = (30, 12, 6)


def labels() -> np.ndarray:
    """The place of the data set, then its labels."""
    random = np.random.default_rng(0)
    rows = [
        [place, *random.integers(0, 3 if place == 0 else 2, 2)]
        for place in range(3)
        for _ in range(SIZES[place])
    ]
    return np.array(rows)


def params(**changes: object) -> TrialParams:
    return TrialParams.model_validate({"architecture": "any", "batch_size": 8, **changes})


def of_each(batches: list, of: np.ndarray) -> Counter:
    return Counter(of[np.concatenate([batch.rows for batch in batches]), 0].tolist())


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
    st.sampled_from(["proportional", "equal", "temperature"]),
    st.floats(1, 100),
)
def test_an_epoch_has_as_many_images_as_there_are(
    counts: list[int], sampling: str, temperature: float
) -> None:
    found = images_of_each(counts, sampling, temperature)
    assert min(found) >= 1
    assert abs(sum(found) - sum(counts)) <= len(counts)  # one image of each at least
    ranks = np.argsort(counts, kind="stable")
    assert all(np.diff(np.array(found)[ranks]) >= -1)  # more images, not fewer draws


def test_temperature_lies_between_proportional_and_equal() -> None:
    counts = [900, 90, 10]
    assert images_of_each(counts, "proportional") == counts
    assert images_of_each(counts, "temperature", 1.0) == counts
    assert sorted(images_of_each(counts, "equal")) == [333, 333, 334]
    assert images_of_each(counts, "temperature", 2.0) == [703, 223, 74]  # 30 : 9.4868 : 3.1623


@pytest.mark.parametrize(("sampling", "expected"), [("proportional", SIZES), ("equal", (16, 16, 16))])
@pytest.mark.parametrize("norm", ["shared", "per_dataset"])
def test_batches_have_the_images_that_the_sampling_says(
    sampling: str, expected: tuple[int, ...], norm: str
) -> None:
    own = labels()
    mixture = Mixture(MEMBERS, own, params(sampling=sampling, norm=norm), seed=3)
    batches = mixture.batches(1)
    assert len(batches) == mixture.steps
    assert max(len(batch.rows) for batch in batches) <= 8
    assert of_each(batches, own) == dict(enumerate(expected))
    places = [set(own[batch.rows, 0].tolist()) for batch in batches]
    if norm == "per_dataset":
        assert places == [{batch.dataset} for batch in batches]
        assert len({batch.dataset for batch in batches[:4]}) > 1  # in random order
    else:
        assert [batch.dataset for batch in batches] == [None] * len(batches)
        assert any(len(place) > 1 for place in places)


def test_small_data_sets_come_several_times_large_ones_in_another_part_each_time() -> None:
    own = labels()
    mixture = Mixture(MEMBERS, own, params(sampling="equal"), seed=3)
    drawn = [np.concatenate([batch.rows for batch in mixture.batches(epoch)]) for epoch in (1, 2)]
    times = [np.bincount(rows, minlength=len(own)) for rows in drawn]
    assert all(set(each[42:].tolist()) <= {2, 3} for each in times)  # 16 of 6
    assert all(each[:30].max() == 1 for each in times)
    assert not np.array_equal(times[0][:30], times[1][:30])
    again = np.concatenate([batch.rows for batch in mixture.batches(2)])
    assert np.array_equal(again, drawn[1])


def test_balanced_sampling_balances_within_a_data_set() -> None:
    own = np.array([[0, 0]] * 90 + [[0, 1]] * 10 + [[1, 0]] * 50 + [[1, 1]] * 50)
    two = [Member("binary", 1, slice(0, 2)), Member("binary", 1, slice(2, 4))]
    mixture = Mixture(two, own, params(balanced_sampling=True), seed=0)
    rows = np.concatenate([b.rows for epoch in range(1, 21) for b in mixture.batches(epoch)])
    first = own[rows][own[rows, 0] == 0]
    assert len(first) == 2000
    assert 0.45 < first[:, 1].mean() < 0.55


def test_one_data_set_is_batched_as_ever() -> None:
    own = labels()[:30]
    for norm in ("shared", "per_dataset"):
        mixture = Mixture(MEMBERS[:1], own, params(norm=norm), seed=3)
        expected = epoch_batches("multiclass", own[:, 1], 8, balanced=False, seed=3, epoch=2)
        for batch, rows in zip(mixture.batches(2), expected, strict=True):
            assert np.array_equal(batch.rows, rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_image_has_the_loss_of_its_own_data_set(weighted: bool) -> None:
    own = torch.from_numpy(labels())
    own[31, 1] = UNKNOWN
    logits = torch.randn(len(own), 7, generator=torch.Generator().manual_seed(0))
    found = JointLoss(MEMBERS, own, smoothing=0.1, weighted=weighted)
    sums, weights = 0.0, 0.0
    for place, member in enumerate(MEMBERS):
        mine = own[:, 0] == place
        targets = member.labels(own[mine])
        n_outputs = member.columns.stop - member.columns.start
        loss = Loss(member.task, targets, n_outputs, smoothing=0.1, weighted=weighted)
        sums += float(loss.sum(logits[mine][:, member.columns], targets))
        weights += float(loss.weight(targets))
    assert float(found.sum(logits, own)) == pytest.approx(sums, rel=1e-6)
    assert float(found.weight(own)) == pytest.approx(weights, rel=1e-6)


def test_outputs_of_other_heads_have_no_part_in_it() -> None:
    own = torch.from_numpy(labels())
    logits = torch.randn(len(own), 7, requires_grad=True)
    JointLoss(MEMBERS, own).sum(logits, own).backward()
    assert logits.grad is not None
    for place, member in enumerate(MEMBERS):
        others = torch.ones(7, dtype=torch.bool)
        others[member.columns] = False
        assert not logits.grad[own[:, 0] == place][:, others].any()
        assert logits.grad[own[:, 0] == place][:, ~others].any()
