"""A trial on volumes: trained on slices, judged by volume, with the AUC per slice beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from making_cases import SLICES, SPLITS, volume_config, volume_table
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData, Split
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.space import TrialParams
from medfathom.metrics.auc import roc_auc_score
from medfathom.trial.judging import judge
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    root = tmp_path_factory.mktemp("volumes")
    return prepare(volume_config(volume_table(root)), root / "cache")


def params(**changes: object) -> TrialParams:
    given = {"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 16}
    return TrialParams.model_validate(given | changes)


def task_on(data: PreparedData, tmp_path: Path) -> TrialTask:
    training = TrainingConfig(precision="float32")
    return TrialTask(data, training, 2, 7, tmp_path, tmp_path / "trial.ckpt", "cpu", 1)


def last(chosen: TrialParams, task: TrialTask) -> TrialRecord:
    return list(run_trial(chosen, task))[-1]


@pytest.mark.parametrize("depth", [0, 5])
@pytest.mark.parametrize("combine", ["mean", "max"])
def test_a_trial_tells_the_auc_of_volumes_and_of_slices(
    volumes: PreparedData, tmp_path: Path, combine: str, depth: int
) -> None:
    record = last(params(combine=combine, unfreeze_depth=depth), task_on(volumes, tmp_path))
    assert (record.unit, record.combine, record.n_cases) == ("volume", combine, SPLITS["val"])
    assert record.n_train == SPLITS["train"] * SLICES
    assert record.auc is not None
    assert record.image_auc is not None
    # 4 ill and 4 well volumes make 16 pairs: an AUC of volumes is a whole number of half pairs.
    assert record.auc * 32 == pytest.approx(round(record.auc * 32), abs=1e-9)
    assert record.image_auc_ci_low is not None
    assert record.image_auc_ci_low <= record.image_auc
    assert record.train_auc is not None
    assert record.auc_interval is not None
    assert "group" in record.auc_interval  # patients are counted, not volumes


def test_a_part_of_the_training_images_is_whole_patients(volumes: PreparedData, tmp_path: Path) -> None:
    record = last(params(train_fraction=0.5), task_on(volumes, tmp_path))
    assert record.n_train == SPLITS["train"] * SLICES // 2


def test_a_part_of_the_training_images_is_whole_volumes_where_no_patient_is_known(tmp_path: Path) -> None:
    data = prepare(volume_config(volume_table(tmp_path), group_column=None), tmp_path / "cache")
    record = last(params(train_fraction=0.25), task_on(data, tmp_path))
    assert record.n_train == SPLITS["train"] * SLICES // 4
    assert "group" not in (record.auc_interval or "")


def made_split() -> Split:
    """Three volumes: (ill) 0.9 0.1, (well) 0.6 0.2, (well) 0.45 0.45; two of one patient."""
    cases = np.array(["a", "a", "b", "b", "c", "c"])
    images = np.zeros((6, 8, 8, 1), dtype=np.uint8)
    return Split(images, np.array([1, 1, 0, 0, 0, 0]), np.array(list("PPQQQQ")), list("012345"), cases)


def test_metrics_of_volumes_by_hand(volumes: PreparedData) -> None:
    p = np.array([0.9, 0.1, 0.6, 0.2, 0.45, 0.45])
    logits = np.stack([np.log(1 - p), np.log(p)], axis=1)
    split = made_split()
    # Means 0.5, 0.4, 0.45; maxima 0.9, 0.6, 0.45; of images 0.9 beats four of four, 0.1 none.
    for combine in ("mean", "max"):
        metrics = judge(volumes, split, logits, combine, thresholds=[0.48])  # type: ignore[arg-type]
        assert metrics.auc == 1.0
        assert metrics.image_auc == pytest.approx(4 / 8)
        assert metrics.n_cases == 3
        assert metrics.specificity == pytest.approx(1.0 if combine == "mean" else 0.5)
    assert metrics.brier_loss == pytest.approx((0.1**2 + 0.6**2 + 0.45**2) / 3)
    flat = judge(volumes, replace(split, cases=None), logits, "mean")
    assert (flat.auc, flat.image_auc, flat.n_cases) == (pytest.approx(4 / 8), None, None)


def test_the_units_of_a_split_know_their_patients() -> None:
    units = made_split().units
    assert (list(units.names), units.labels.tolist()) == (["a", "b", "c"], [1, 0, 0])
    assert units.groups is not None
    assert units.groups.tolist() == ["P", "Q", "Q"]
    assert roc_auc_score(units.labels, [0.5, 0.4, 0.45])[0] == 1.0
