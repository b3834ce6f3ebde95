"""A trial on several data sets: as ever with one, each judged by itself, what moves and what stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from joint_sets import chest, joined, prepared, retina, task_on, tissue
from medfathom.data.prepared import JointData, PreparedData
from medfathom.definitions.space import TrialParams
from medfathom.errors import ModelError
from medfathom.trial.checkpoint import load_checkpoint, load_validation
from medfathom.trial.network import network_of
from medfathom.trial.record import TrialRecord
from medfathom.trial.trial import run_trial
from medfathom.trial.validation import ValidationPredictions

VARYING = {"train_seconds", "images_per_second", "peak_memory_bytes", "feature_cache"}
"""What two runs of one trial may differ in."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> JointData:
    return prepared(joined(chest(), retina(), tissue()), tmp_path_factory.mktemp("joint"))


def params(**changes: Any) -> TrialParams:
    given = {"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 8}
    return TrialParams.model_validate({**given, "unfreeze_depth": 2, **changes})


def told(records: list[TrialRecord]) -> list[dict[str, object]]:
    return [record.model_dump(exclude={*VARYING, "datasets", "dataset_fingerprint"}) for record in records]


def trained(chosen: TrialParams, data: PreparedData, folder: Path) -> Mapping[str, Tensor]:
    """All tensors of the network after a trial."""
    task = task_on(data, folder)
    network = network_of(chosen, task, data.split("train"))
    list(run_trial(chosen, task))
    checkpoint = load_checkpoint(folder / "trial.pt", torch.device("cpu"))
    assert checkpoint is not None
    network.load_trained_state(checkpoint.network)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"balanced_sampling": True, "class_weights": True}, {"train_fraction": 0.5, "unfreeze_depth": 0}],
)
def test_one_data_set_among_several_is_the_study_of_that_one_to_the_last_bit(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    alone = prepared(joined(chest(), channels=None), tmp_path / "cache")
    chosen = params(**changes)
    as_one = list(run_trial(chosen, task_on(alone.parts[0], tmp_path / "one")))
    as_several = list(run_trial(chosen, task_on(alone, tmp_path / "several")))
    assert told(as_several) == told(as_one)
    own = as_several[-1].datasets
    assert own is not None
    assert own["chest"].auc == as_one[-1].auc
    one, several = (
        load_checkpoint(tmp_path / n / "trial.pt", torch.device("cpu")) for n in ("one", "several")
    )
    assert one is not None
    assert several is not None
    renamed = {name.replace("heads.0.", ""): tensor for name, tensor in several.network.items()}
    assert renamed.keys() == one.network.keys()
    assert all(torch.equal(tensor, one.network[name]) for name, tensor in renamed.items())
    kept = [load_validation(tmp_path / name / "trial.pt") for name in ("one", "several")]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("norm", ["shared", "per_dataset"])
def test_each_data_set_is_judged_and_the_objective_is_their_mean(
    data: JointData, tmp_path: Path, norm: str
) -> None:
    *_, last = run_trial(params(norm=norm), task_on(data, tmp_path))
    assert last.datasets is not None
    assert list(last.datasets) == ["chest", "retina", "tissue"]
    aucs = [own.auc for own in last.datasets.values()]
    assert last.auc == pytest.approx(np.mean(aucs))  # type: ignore[arg-type]
    assert last.n_train == 60
    # The data sets are independent: the mean is known better than each.
    widths = [own.auc_ci_high - own.auc_ci_low for own in last.datasets.values()]  # type: ignore[operator]
    assert last.auc_ci_low is not None
    assert last.auc_ci_high is not None
    assert last.auc_ci_low < last.auc < last.auc_ci_high
    assert last.auc_ci_high - last.auc_ci_low < max(widths)
    assert last.datasets["tissue"].positive == "crowded"
    assert last.positive is None
    # Groups are known of tissue alone.
    assert "clustered" in (last.datasets["tissue"].auc_interval or "")
    assert "clustered" not in (last.datasets["chest"].auc_interval or "")


def test_kept_predictions_have_the_mean_over_data_sets(data: JointData, tmp_path: Path) -> None:
    from medfathom.metrics.auc import roc_auc_score  # noqa: PLC0415

    *_, last = run_trial(params(), task_on(data, tmp_path))
    kept = ValidationPredictions.from_bytes(load_validation(tmp_path / "trial.pt"))
    assert kept is not None
    assert len(kept.labels) == 48
    aucs = roc_auc_score(kept.positive, kept.scores)
    assert last.auc == pytest.approx(float(np.nanmean(aucs)), abs=1e-6)
    assert kept.groups is not None
    # Images of other data sets are of no patient of tissue.
    assert not set(kept.groups[:32].tolist()) & set(kept.groups[32:].tolist())
    assert len(set(kept.groups[32:].tolist())) == 8


def test_each_data_set_has_statistics_scale_and_shift_of_its_own(data: JointData, tmp_path: Path) -> None:
    state = trained(params(norm="per_dataset"), data, tmp_path)
    for kind in ("running_mean", "running_var", "weight", "bias"):
        own = [name for name in state if ".per_dataset.0." in name and name.endswith(kind)]
        assert own
        others = [name.replace(".per_dataset.0.", f".per_dataset.{k}.") for name in own for k in (1, 2)]
        for name, other in zip([n for n in own for _ in range(2)], others, strict=True):
            assert not torch.equal(state[name], state[other])


@pytest.mark.parametrize("norm", ["shared", "per_dataset"])
def test_what_is_frozen_stays_as_it_was_and_is_shared(data: JointData, tmp_path: Path, norm: str) -> None:
    chosen = params(norm=norm)
    network = network_of(chosen, task_on(data, tmp_path), data.split("train"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = trained(chosen, data, tmp_path)
    frozen = [name for name in before if name not in network.trained_state()]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not any("per_dataset" in name for name in frozen)


@pytest.mark.parametrize("norm", ["shared", "per_dataset"])
def test_kept_features_change_nothing(
    data: JointData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    """The cache holds the same features whatever an image is of."""
    monkeypatch.setattr("medfathom.trial.network.DRAWN", ())  # as pretrained weights, which trials share
    chosen = params(norm=norm)
    task = task_on(data, tmp_path / "kept", epochs=4)
    kept = list(run_trial(chosen, task))
    assert kept[-1].feature_cache is not None
    assert kept[-1].feature_cache.kept
    without = replace(
        task_on(data, tmp_path / "without", epochs=4),
        training=task.training.model_copy(update={"cache_gb": 0.0}),
    )
    other = list(run_trial(chosen, without))
    assert not other[-1].feature_cache.kept  # type: ignore[union-attr]
    for one, two in zip(kept, other, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-4)
        assert one.auc == pytest.approx(two.auc, abs=1e-6)


@pytest.mark.parametrize("changes", [{"norm": "per_dataset"}, {"sampling": "equal", "strategy": "gradual"}])
def test_a_trial_that_was_stopped_goes_on_as_if_never_interrupted(
    data: JointData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("medfathom.definitions.strategies.DRAWN", ())
    chosen = params(**changes)
    whole = list(run_trial(chosen, task_on(data, tmp_path / "whole", epochs=3)))
    list(islice(run_trial(chosen, task_on(data, tmp_path / "parts", epochs=3)), 2))
    rest = list(run_trial(chosen, task_on(data, tmp_path / "parts", epochs=3)))
    assert told(rest) == told(whole[2:])


def test_a_network_without_batch_norm_is_refused(data: JointData, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='norm = "per_dataset": test_vit has no batch norm'):
        next(run_trial(params(architecture="test_vit", norm="per_dataset"), task_on(data, tmp_path)))


def test_the_record_counts_every_head_and_every_batch_norm(data: JointData, tmp_path: Path) -> None:
    (shared, *_), (own, *_) = (
        run_trial(params(norm=norm), task_on(data, tmp_path / norm)) for norm in ("shared", "per_dataset")
    )
    alone = next(run_trial(params(), task_on(data.parts[2], tmp_path / "alone")))
    assert shared.depth == own.depth == alone.depth
    assert (shared.n_params or 0) > (alone.n_params or 0)
    assert (own.n_params or 0) > (shared.n_params or 0)
