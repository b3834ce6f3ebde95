"""A whole small study as a user runs it: definition, trials under Ray, show, analyze, and going on."""

import json
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from typing_commands import typed

SMALL = """
version = 1
name = "small"
question = "Does a small study run from end to end?"
scheduler = "none"
sampler = "random"

[dataset]
source = "phantom-oct"
modality = "OCT"
image_size = 32
n_train = 36
n_val = 24
n_test = 24

[space.architecture]
role = "scientific"
choices = ["test_resnet", "test_vit", "test_efficientnet"]

[space.init]
value = "random"

[space.unfreeze_depth]
choices = [0, 1]

[space.learning_rate]
low = 1e-3
high = 1e-2
log = true

[budget]
trials = 4
epochs = 2
"""
CONTRACT = [
    "architecture",
    "family",
    "init",
    "init_source",
    "unfreeze_depth",
    "n_params",
    "n_trainable_params",
    "trainable_fraction",
    "depth",
    "macs",
    "stratum",
    "seed",
    "epochs",
    "max_epochs",
    "stop_reason",
    "train_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device",
    "dataset_fingerprint",
    "definition_hash",
    "versions",
    "auc",
    "auc_ci_low",
    "auc_ci_high",
    "sensitivity",
    "specificity",
    "precision",
]


@pytest.fixture
def definition(workdir: Path) -> Path:
    path = workdir / "small.toml"
    path.write_text(SMALL)
    return path


def trials_of(study: str) -> list[FrozenTrial]:
    return read_study(default_url(), study).get_trials()


def test_a_study_from_end_to_end(workdir: Path, definition: Path, ray_cluster: None) -> None:
    printed = typed("run", "small.toml")
    assert "4 of 4 trials (4 complete)" in printed
    trials = trials_of("small")
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    for trial in trials:
        assert [name for name in CONTRACT if name not in trial.user_attrs] == []
        assert list(trial.intermediate_values) == [1, 2]
        assert trial.value == trial.intermediate_values[2] == trial.user_attrs["auc"]
        assert trial.user_attrs["n_params"] > 50_000
    assert not list((workdir / "storage" / "checkpoints").rglob("*.pt"))

    more = typed("run", "small.toml", "--trials", "6")
    assert "6 of 6 trials (6 complete)" in more
    again = trials_of("small")
    assert [t.params for t in again[:4]] == [t.params for t in trials]
    assert len({tuple(t.params.items()) for t in again}) == 6

    assert json.loads(typed("show", "small", "--json"))["states"]["COMPLETE"] == 6
    report = json.loads(typed("analyze", "small", "--exploratory", "--json"))
    assert report["exploratory"] is True
    predictors = report["modalities"]["OCT"]["predictors"]
    assert {p["verdict"] for p in predictors.values()} == {"inconclusive"}
    assert (workdir / "storage" / "reports" / "small-exploratory" / "analysis.json").is_file()
    assert sorted(p.name for p in workdir.iterdir()) == ["small.toml", "storage"]


def test_real_chest_x_rays(workdir: Path, shared: Path, ray_cluster: None) -> None:
    path = shared / "data" / "pneumoniamnist.npz"
    printed = typed(
        *("run", "pneumoniamnist", "--set", f"dataset.path={path}", "--set", "budget.trials=2"),
        *("--set", "space.unfreeze_depth.value=0", "--set", "space.init.value=imagenet"),
        *("--set", "space.architecture.choices=['tf_efficientnet_lite0']", "--set", "scheduler=none"),
    )
    assert "2 of 2 trials (2 complete)" in printed
    trials = trials_of("pneumoniamnist")
    assert all(t.value is not None and t.value > 0.8 for t in trials)
