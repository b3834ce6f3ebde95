"""Attention over the images of a case: bags, the head, and that it learns to look where the lesion is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from making_cases import volume_config, volume_table
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.space import TrialParams
from medfathom.metrics.cases import combine_logits
from medfathom.models.attention import AttentionHead, attended
from medfathom.models.build import HeadOptions, build_network
from medfathom.trial.bags import BAG_IMAGES, BagBatch, bag_batches
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial


@given(data=st.data())
def test_an_epoch_uses_every_image_once_in_bags_of_one_case(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    member = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(
        np.repeat(range(len(sizes)), sizes)
    )
    batch_size = data.draw(st.integers(2, 40))
    batches = bag_batches("binary", member % 2, member, batch_size, balanced=False, seed=3, epoch=1)
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(len(member)))
    for batch in batches:
        bags = [batch.rows[batch.member == k] for k in range(batch.member.max() + 1)]
        assert all(len(set(member[bag].tolist())) == 1 for bag in bags)
        assert max(map(len, bags)) <= min(BAG_IMAGES, batch_size)
        assert len(batch.rows) <= batch_size + min(BAG_IMAGES, batch_size)
    assert len(batches) <= -(-len(member) // batch_size)


def test_balanced_bags_come_from_every_class_as_often() -> None:
    member = np.repeat(np.arange(40), 5)
    labels = (member < 4).astype(np.int64)  # a tenth
    batches = bag_batches("binary", labels, member, 10, balanced=True, seed=0, epoch=1)
    drawn = np.concatenate([labels[batch.rows] for batch in batches])
    assert 0.3 < drawn.mean() < 0.7


@given(data=st.data())
def test_a_batch_is_cut_between_bags(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=9))
    batch = BagBatch(np.arange(sum(sizes)), np.repeat(range(len(sizes)), sizes))
    spans = batch.spans(data.draw(st.integers(1, 6)))
    assert np.concatenate([batch.rows[span] for span in spans]).tolist() == batch.rows.tolist()
    assert all(span.start in batch.first for span in spans)


@given(n=st.integers(1, 40), parts=st.integers(1, 10))
def test_images_are_cut_into_equal_parts(n: int, parts: int) -> None:
    spans = BagBatch(np.arange(n), np.arange(n)).spans(parts)
    sizes = [span.stop - span.start for span in spans]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_training_and_judging_weigh_alike() -> None:
    outputs = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)) * 5
    member = np.array([0, 0, 1, 2, 2, 2, 2, 1, 0])
    mine = attended(outputs, torch.from_numpy(member), 3).numpy()
    assert mine == pytest.approx(combine_logits("multiclass", outputs.numpy(), member, "attention"), abs=1e-5)


def test_the_gradient_reaches_the_attention() -> None:
    outputs = torch.randn(5, 3, requires_grad=True)
    attended(outputs, torch.tensor([0, 0, 0, 1, 1]), 2)[:, 0].sum().backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, -1].abs() > 1e-6).all()
    assert outputs.grad[:3, -1].sum() == pytest.approx(0, abs=1e-6)  # weights sum to 1


def test_a_head_with_attention_has_the_same_classifier() -> None:
    plain, with_attention = (
        build_network(
            "test_resnet",
            init="random",
            num_outputs=2,
            unfreeze_depth=0,
            image_size=32,
            in_channels=1,
            seed=1,
            head=HeadOptions(attention=attention),
        ).eval()
        for attention in (False, True)
    )
    assert isinstance(with_attention.head, AttentionHead)
    images = torch.rand(3, 1, 32, 32)
    assert torch.allclose(with_attention(images)[:, :2], plain(images))
    assert with_attention(images).shape == (3, 3)
    assert with_attention.facts.depth == plain.facts.depth
    assert with_attention.facts.n_params > plain.facts.n_params


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    root = tmp_path_factory.mktemp("volumes")
    return prepare(volume_config(volume_table(root)), root / "cache")


def trained(data: PreparedData, folder: Path, epochs: int = 2, **changes: object) -> list[TrialRecord]:
    given_values = {"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 16}
    params = TrialParams.model_validate(given_values | {"combine": "attention"} | changes)
    training = TrainingConfig(precision="float32", cached_views=1)
    return list(run_trial(params, TrialTask(data, training, epochs, 7, folder, folder / "t.ckpt", "cpu", 1)))


@pytest.mark.parametrize("depth", [0, 5])
def test_a_trial_with_attention_learns(volumes: PreparedData, tmp_path: Path, depth: int) -> None:
    records = trained(volumes, tmp_path, epochs=6, unfreeze_depth=depth)
    losses = [record.train_loss or 0.0 for record in records]
    assert losses[-1] < losses[0]
    assert records[-1].combine == "attention"
    assert records[-1].image_auc is not None
    if depth == 5:
        assert (records[-1].auc or 0) > 0.9


def test_a_trial_with_attention_goes_on_as_if_never_interrupted(
    volumes: PreparedData, tmp_path: Path
) -> None:
    whole = trained(volumes, tmp_path / "whole", epochs=3)
    training = TrainingConfig(precision="float32", cached_views=1)
    params = TrialParams.model_validate(
        {
            **{"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 16},
            "combine": "attention",
        }
    )
    task = TrialTask(volumes, training, 3, 7, tmp_path, tmp_path / "cut.ckpt", "cpu", 1)
    interrupted = run_trial(params, task)
    next(interrupted)
    interrupted.close()
    rest = list(run_trial(params, task))
    assert [record.epochs for record in rest] == [2, 3]
    assert rest[-1].train_loss == whole[-1].train_loss
    assert rest[-1].auc == whole[-1].auc
