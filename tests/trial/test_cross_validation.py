"""A trial on several folds: epochs counted over all, one record for each, features of all folds kept once."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from medfathom.data.folds import open_folds
from medfathom.data.prepare import prepare
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import PhantomDataset, SplitsConfig
from medfathom.definitions.space import TrialParams
from medfathom.metrics.cross_validated import mean_auc
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial

EPOCHS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrialTask:
    """Phantom OCT of 60 patients, two folds, twice."""
    splits = SplitsConfig(folds=2, repeats=2)
    config = PhantomDataset(
        source="phantom-oct",
        modality="OCT",
        image_size=32,
        n_train=80,
        n_val=40,
        n_test=9,
        difficulty=0.2,
        patients_train=40,
        patients_val=20,
        patients_test=9,
        splits=splits,
    )
    folder = tmp_path_factory.mktemp("folds")
    data = prepare(config, folder)
    return TrialTask(
        data=data,
        training=TrainingConfig(precision="float32"),
        max_epochs=EPOCHS,
        seed=7,
        cache_dir=folder / "cache",
        checkpoint=None,
        device="cpu",
        threads=1,
        folds=open_folds(data, splits),
    )


@pytest.fixture
def task(base: TrialTask, tmp_path: Path) -> TrialTask:
    return replace(base, cache_dir=tmp_path / "cache", checkpoint=tmp_path / "trial.pt")


PARAMS = TrialParams(architecture="test_resnet", init="random", learning_rate=0.01, batch_size=16)


@pytest.fixture(scope="module")
def whole(base: TrialTask) -> list[TrialRecord]:
    """A trial that was not interrupted."""
    return list(run_trial(PARAMS, base))


def aucs(records: list[TrialRecord]) -> list[float | None]:
    return [record.auc for record in records]


def test_every_fold_is_trained_and_the_mean_is_told(task: TrialTask, whole: list[TrialRecord]) -> None:
    records = whole
    assert [r.epochs for r in records] == list(range(1, 9))
    assert {r.max_epochs for r in records} == {8}
    assert [r.finished for r in records] == [False] * 7 + [True]
    assert [len(r.fold_aucs or []) for r in records] == [1, 1, 2, 2, 3, 3, 4, 4]
    for record in records:
        assert record.auc == pytest.approx(np.mean(record.fold_aucs or []))
    last = records[-1]
    assert last.folds is not None and task.folds is not None
    assert [score.judged.auc for score in last.folds] == last.fold_aucs
    expected = mean_auc([score.judged for score in last.folds], 2)
    assert (last.auc, last.auc_ci_low, last.auc_ci_high) == expected
    assert last.val_loss == pytest.approx(np.mean([score.val_loss for score in last.folds]))
    assert last.sensitivity is None and records[0].sensitivity is not None  # the first fold's own
    assert {r.n_train for r in records} == {len(task.folds[k].train) for k in range(4)}
    assert TrialRecord.of(last.attributes()) == last
    assert len(set(last.fold_aucs or [])) > 1


@pytest.mark.parametrize("stopped_after", [1, 2, 5])
def test_a_restart_changes_nothing(task: TrialTask, whole: list[TrialRecord], stopped_after: int) -> None:
    begun = list(islice(run_trial(PARAMS, task), stopped_after))
    rest = list(run_trial(PARAMS, task))
    assert [r.epochs for r in begun + rest] == list(range(1, 9))
    assert aucs(begun + rest) == pytest.approx(aucs(whole), abs=1e-9)
    assert (rest[-1].auc_ci_low, rest[-1].fold_aucs) == (whole[-1].auc_ci_low, whole[-1].fold_aucs)


def test_a_later_trial_goes_on_with_the_second_fold(task: TrialTask, whole: list[TrialRecord]) -> None:
    first = whole[EPOCHS - 1]
    later = list(run_trial(PARAMS, replace(task, scored=first.folds or [])))
    assert [r.epochs for r in later] == list(range(EPOCHS + 1, 9))
    assert aucs(later) == pytest.approx(aucs(whole[EPOCHS:]), abs=1e-9)
    assert later[-1].auc_ci_low == pytest.approx(whole[-1].auc_ci_low)


@pytest.mark.parametrize("augmentation", ["none", "oct"])
def test_features_are_kept_once_for_all_folds(task: TrialTask, augmentation: str) -> None:
    params = PARAMS.model_copy(update={"unfreeze_depth": 1, "augmentation": augmentation})
    # Statistics of a random prefix are of a fold's own images: its features would be, too.
    kept = {"cached_views": 1, "calibrate_batch_norm": False}
    training = task.training.model_copy(update=kept)
    records = list(run_trial(params, replace(task, training=training)))
    uses = [r.feature_cache for r in records]
    assert all(use is not None and use.kept for use in uses)
    entries = list((task.cache_dir / "features").glob("*.json"))
    assert len(entries) == (1 if augmentation == "none" else 2)  # the view, and the images as they are
    built = [use.built_seconds for use in uses if use is not None]
    assert max(built[:EPOCHS]) > 0
    assert built[EPOCHS:] == [0.0] * 6
    if augmentation == "none":
        without = training.model_copy(update={"cache_gb": 0.0})
        plain = list(run_trial(params, replace(task, training=without, checkpoint=None)))
        assert aucs(records) == pytest.approx(aucs(plain), abs=0.02)


def test_statistics_of_a_random_prefix_are_not_of_the_images_to_judge(task: TrialTask) -> None:
    assert task.folds is not None
    params, pool = PARAMS.model_copy(update={"unfreeze_depth": 0}), task.folds.pool
    changed = np.array(pool.images)
    changed[task.folds[0].val] //= 9
    other = replace(task.folds, pool=replace(pool, images=changed))
    plain = replace(task, training=task.training.model_copy(update={"cache_gb": 0.0}), checkpoint=None)
    tasks = (plain, replace(plain, folds=other))
    one, two = (next(iter(run_trial(params, each))) for each in tasks)
    assert one.train_loss == two.train_loss


def test_kept_features_of_a_fold_are_not_those_of_another(task: TrialTask) -> None:
    params = PARAMS.model_copy(update={"unfreeze_depth": 1})
    plain = replace(task, training=task.training.model_copy(update={"cache_gb": 0.0}), checkpoint=None)
    kept, computed = (list(run_trial(params, each)) for each in (task, plain))
    assert all(record.feature_cache is not None and record.feature_cache.kept for record in kept)
    assert aucs(kept) == pytest.approx(aucs(computed), abs=0.02)


def test_no_image_is_judged_by_a_network_that_trained_on_its_patient(task: TrialTask) -> None:
    assert task.folds is not None and task.folds.pool.groups is not None
    for number in range(len(task.folds)):
        fold = task.folds[number]
        groups = task.folds.pool.groups
        assert not set(groups[fold.train]) & set(groups[fold.val])
    seen = np.concatenate([task.folds[number].val for number in range(2)])
    assert sorted(seen) == list(range(120))
