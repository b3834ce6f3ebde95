"""Heads that are fitted side by side end where each would have ended alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset
from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.metrics.unknown import UNKNOWN
from medfathom.models.build import build_network
from medfathom.trial.alike import alike
from medfathom.trial.checkpoint import Checkpoint, load_checkpoint
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

EPOCHS = 3
TOLERANCE = {"float32": 1e-6, "bfloat16": 2.0**-6}
"""Of the largest value. In bfloat16 a logit is rounded to 2^-9 of itself, up or down as sums are ordered."""


@pytest.fixture(scope="module", params=["multiclass"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Images whose brightness tells their class; several labels, some of them not known."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 75), ("val", 30), ("test", 9)):
        classes = np.arange(n) % 3
        noise = random.integers(0, 128, (n, 32, 32))
        arrays[f"{split}_images"] = (noise + 40 * classes[:, None, None]).astype(np.uint8)
        labels = classes[:, None]
        if request.param != "multiclass":
            labels = np.stack([classes == 1, random.random(n) < 0.3], axis=1).astype(np.int64)
        arrays[f"{split}_labels"] = labels
    np.savez(folder / "images.npz", **arrays)
    config = NpzDataset(source="npz", modality="CXR", image_size=32, path=str(folder / "images.npz"))
    prepared = prepare(config, folder / "cache")
    if request.param == "unknown":
        known = np.load(prepared.folder / "train_labels.npy")
        np.save(
            prepared.folder / "train_labels.npy", np.where(random.random(known.shape) < 0.2, UNKNOWN, known)
        )
    return prepared


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = build_network(
        "test_resnet", init="random", num_outputs=2, unfreeze_depth=0, image_size=32, in_channels=1, seed=1
    )
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file({k: v.contiguous() for k, v in network.backbone.state_dict().items()}, path)
    return f"file:{path}"


@pytest.fixture
def task(data: PreparedData, tmp_path: Path) -> TrialTask:
    training = TrainingConfig(cached_views=2, precision="float32")
    return TrialTask(data, training, EPOCHS, 7, tmp_path / "cache", tmp_path / "alone.pt", "cpu", 1)


def params(weights: str, **changes: Any) -> TrialParams:
    base = {"architecture": "test_resnet", "init": weights, "unfreeze_depth": 0, "batch_size": 16}
    return TrialParams.model_validate({**base, "learning_rate": 0.01, **changes})


def others_of(first: TrialParams, task: TrialTask) -> list[tuple[TrialParams, TrialTask]]:
    """Trials that differ from the first in all that may differ."""
    changes: list[dict[str, object]] = [
        {},
        {"learning_rate": 0.1, "weight_decay": 0.1, "warmup_fraction": 0.5, "decay": "exponential"},
        {"label_smoothing": 0.1, "class_weights": True, "head_dropout": 0.3},
        {"balanced_sampling": True, "head_lr_factor": 3.0},
    ]
    return [
        (
            first.model_copy(update=change),
            replace(task, seed=20 + i, checkpoint=task.cache_dir.parent / f"other-{i}.pt"),
        )
        for i, change in enumerate(changes)
    ]


def checkpoint(task: TrialTask) -> Checkpoint:
    assert task.checkpoint is not None
    found = load_checkpoint(task.checkpoint, torch.device("cpu"))
    assert found is not None
    return found


def tensors(found: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights and the optimizer's state."""
    yield from found.network.items()
    for place, state in found.optimizer["state"].items():
        for name, value in sorted(state.items()):
            yield f"{name} of {place}", torch.as_tensor(value)


def assert_same(ours: Checkpoint, alone: Checkpoint, tolerance: float) -> None:
    assert [name for name, _ in tensors(ours)] == [name for name, _ in tensors(alone)]
    for (name, mine), (_, its) in zip(tensors(ours), tensors(alone), strict=True):
        off = float((mine - its).abs().max())
        assert off <= tolerance * max(float(its.abs().max()), 1.0), name
    assert ours.optimizer["param_groups"] == alone.optimizer["param_groups"]
    assert ours.identity == alone.identity
    for mine_, its_ in zip(ours.history, alone.history, strict=True):
        assert mine_.train_loss == pytest.approx(its_.train_loss, rel=tolerance)
        assert mine_.val_loss == pytest.approx(its_.val_loss, rel=tolerance)
        assert mine_.auc == pytest.approx(its_.auc, abs=1e-9 if tolerance < 1e-5 else 0.1)


def assert_as_alone(chosen: TrialParams, task: TrialTask, tolerance: float = TOLERANCE["float32"]) -> None:
    """After its own turn its checkpoint is the one that it leaves where nothing is beside it."""
    list(run_trial(chosen, task))
    alone = replace(task, checkpoint=task.cache_dir.parent / "again.pt")
    assert alone.checkpoint is not None
    list(run_trial(chosen, alone))
    assert_same(checkpoint(task), checkpoint(alone), tolerance)
    alone.checkpoint.unlink()


@pytest.mark.parametrize(
    ("data", "optimizer", "augmentation"),
    [
        ("multiclass", "adamw", "none"),
        ("multiclass", "sgd", "cxr"),
        ("multilabel", "adam", "cxr"),
        ("unknown", "adamw", "none"),
        ("unknown", "sgd", "none"),
    ],
    indirect=["data"],
)
def test_each_ends_where_it_would_have_ended_alone(
    task: TrialTask, weights: str, optimizer: str, augmentation: str
) -> None:
    first = params(weights, optimizer=optimizer, augmentation=augmentation)
    others = others_of(first, task)
    assert all(alike(first, other) for other, _ in others)
    records = list(run_trial(first, task, others))
    assert [record.fitted_beside for record in records] == [4] * EPOCHS
    assert {len(checkpoint(own).history) for _, own in others} == {EPOCHS - 1}
    for each in [(first, task), *others]:
        assert_as_alone(*each)


def test_in_bfloat16_each_ends_within_its_rounding(task: TrialTask, weights: str) -> None:
    task = replace(task, training=task.training.model_copy(update={"precision": "bfloat16"}))
    first = params(weights)
    others = others_of(first, task)
    assert list(run_trial(first, task, others))[-1].fitted_beside == 4
    for each in [(first, task), *others]:
        assert_as_alone(*each, TOLERANCE["bfloat16"])


class TestWhatGoesWrongBeside:
    """A trial's neighbours have no part in its result, and lose nothing by its end."""

    def test_after_an_end_each_goes_on_in_its_own_turn(self, task: TrialTask, weights: str) -> None:
        first = params(weights)
        others = others_of(first, task)
        assert len(list(islice(run_trial(first, task, others), 1))) == 1  # then its worker is killed
        assert [len(checkpoint(own).history) for _, own in others] == [1] * 4
        for chosen, own in others[:2]:
            assert [record.epochs for record in run_trial(chosen, own)] == [2, 3]
            assert_as_alone(chosen, own)
        # These two are done: only the others are beside it when it goes on.
        assert [record.epochs for record in run_trial(first, task, others)] == [2, 3]
        assert [len(checkpoint(own).history) for _, own in others] == [3, 3, 2, 2]
        for each in [(first, task), *others]:
            assert_as_alone(*each)

    def test_one_that_diverges_is_left_to_its_own_turn(self, task: TrialTask, weights: str) -> None:
        first = params(weights, optimizer="sgd")
        others = others_of(first, task)
        wild = others[1][0].model_copy(update={"learning_rate": 10.0, "head_lr_factor": 1e30})
        others[1] = (wild, others[1][1])
        records = list(run_trial(first, task, others))
        assert records[-1].fitted_beside == 4
        assert [len(checkpoint(own).history) for _, own in others if own is not others[1][1]] == [2] * 3
        assert others[1][1].checkpoint is not None
        assert not others[1][1].checkpoint.exists()
        assert_as_alone(first, task)
        assert_as_alone(*others[2])
        with pytest.raises(RunError, match="diverged"):
            list(run_trial(*others[1]))

    def test_where_the_first_diverges_the_others_keep_their_epochs(
        self, task: TrialTask, weights: str
    ) -> None:
        first = params(weights, optimizer="sgd", learning_rate=10.0)
        first = first.model_copy(update={"head_lr_factor": 1e30})
        others = others_of(params(weights, optimizer="sgd"), task)
        with pytest.raises(RunError, match="learning_rate = 10"):
            list(run_trial(first, task, others))
        assert [len(checkpoint(own).history) for _, own in others] == [1] * 4

    def test_one_that_cannot_be_read_in_is_left_out(self, task: TrialTask, weights: str) -> None:
        first = params(weights)
        others = others_of(first, task)
        foreign = replace(others[0][1], seed=99)
        list(islice(run_trial(first, foreign), 1))
        assert list(run_trial(first, task, others))[-1].fitted_beside == 3
        with pytest.raises(RunError, match="another trial's"):
            list(run_trial(*others[0]))

    def test_a_disk_without_room_for_features_trains_the_first_alone(
        self, task: TrialTask, weights: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("medfathom.trial.features.cache.FeatureCache.make_room", full)
        first = params(weights)
        records: list[TrialRecord] = list(run_trial(first, task, others_of(first, task)))
        assert records[-1].fitted_beside is None
        assert records[-1].feature_cache is not None
        assert "No space left" in records[-1].feature_cache.why


@pytest.mark.parametrize(
    "change",
    [
        {"unfreeze_depth": 1},
        {"head_hidden": 8},
        {"batch_size": 8},
        {"optimizer": "sgd"},
        {"augmentation": "cxr"},
        {"combine": "attention"},
        {"init": "random"},
        {"architecture": "resnet18"},
        {"unfreeze_depth": 2, "strategy": "lp-ft"},
    ],
)
def test_unlike_trials_are_not_fitted_together(change: dict[str, object]) -> None:
    first = params("imagenet")
    assert alike(first, first)
    assert not alike(first, first.model_copy(update=change))
