from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import TrainingConfig
from medfathom.definitions.dataset import NpzDataset, PhantomDataset
from medfathom.definitions.space import TrialParams
from medfathom.errors import DataError, RunError
from medfathom.metrics.auc import roc_auc_score
from medfathom.metrics.classification import log_loss
from medfathom.models.build import Network
from medfathom.trial.checkpoint import load_history, load_validation
from medfathom.trial.fit import NonFiniteLossError
from medfathom.trial.memory import OutOfMemoryError
from medfathom.trial.record import TrialRecord
from medfathom.trial.task import TrialTask
from medfathom.trial.trial import run_trial
from medfathom.trial.validation import ValidationPredictions

CONTRACT = [
    *("architecture", "family", "init", "init_source", "unfreeze_depth", "n_params", "n_trainable_params"),
    *("trainable_fraction", "depth", "macs", "seed", "epochs", "max_epochs", "train_seconds"),
    *("images_per_second", "peak_memory_bytes", "device", "dataset_fingerprint", "versions"),
]
"""DESIGN's user attributes, but for those that the study adds."""

COUNTS = {"train": 40, "val": 20, "test": 6}

VARYING = {"train_seconds", "images_per_second", "peak_memory_bytes", "feature_cache"}
"""Attributes that differ between two runs of the same trial."""


@pytest.fixture(scope="module")
def oct_data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Phantom OCT: three classes, grey, 32 px."""
    config = PhantomDataset(
        source="phantom-oct", modality="OCT", image_size=32, n_train=90, n_val=45, n_test=9, difficulty=0.2
    )
    return prepare(config, tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., PreparedData]:
    """Prepare arrays in MedMNIST's layout; random images and alternating labels where none are given."""

    def make(**arrays: Any) -> PreparedData:
        random = np.random.default_rng(0)
        for split, count in COUNTS.items():
            arrays.setdefault(f"{split}_labels", (np.arange(count) % 2)[:, None])
            n = len(arrays[f"{split}_labels"])
            arrays.setdefault(f"{split}_images", random.integers(0, 256, (n, 32, 32), dtype=np.uint8))
        file = tmp_path / "arrays.npz"
        np.savez(file, **arrays)
        config = NpzDataset(source="npz", modality="CXR", image_size=32, path=str(file))
        return prepare(config, tmp_path / "prepared")

    return make


BFLOAT16_ROUNDOFF = 2.0**-8
"""The largest relative change of a number that is rounded to bfloat16, which has 8 significant bits."""

LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 4 * BFLOAT16_ROUNDOFF}
"""Relative, of two runs that sum the same gradients in another order.

In bfloat16 a gradient is rounded once, or part by part: in either run it may be off by 2^-8 of itself,
and a step by twice as much, as it follows from two moments of the gradient. The losses then differ by at most
4 * 2^-8 of what the steps have changed them by, which is less than the loss itself.
"""

both_precisions = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


def relabelled(data: PreparedData, labels: np.ndarray) -> PreparedData:
    """The same data with other validation labels, such as `prepare` itself would refuse."""
    np.save(data.folder / "val_labels.npy", labels.astype(np.int64))
    return data


@pytest.fixture
def task(oct_data: PreparedData, tmp_path: Path) -> TrialTask:
    return TrialTask(
        data=oct_data,
        # "auto" is another arithmetic on each machine; tests compare losses to their last digits.
        training=TrainingConfig(cached_views=2, precision="float32"),
        max_epochs=4,
        seed=7,
        cache_dir=tmp_path / "cache",
        checkpoint=tmp_path / "checkpoints" / "trial.ckpt",
        device="cpu",
        threads=1,
    )


def training(task: TrialTask, **changes: Any) -> TrialTask:
    """The same task with other keys of `[training]`."""
    return replace(task, training=task.training.model_copy(update=changes))


def params(**changes: Any) -> TrialParams:
    return TrialParams.model_validate(
        {"architecture": "test_resnet", "init": "random", "learning_rate": 0.01, "batch_size": 16, **changes}
    )


def run(chosen: TrialParams, task: TrialTask, epochs: int | None = None) -> list[TrialRecord]:
    """The records of a trial that is stopped after some epochs, or never."""
    return list(islice(run_trial(chosen, task), epochs))


def without_varying(records: list[TrialRecord]) -> list[TrialRecord]:
    return [record.model_copy(update=dict.fromkeys(VARYING)) for record in records]


def test_a_full_trial_keeps_the_contract(task: TrialTask) -> None:
    records = run(params(unfreeze_depth=1), task)
    assert [record.epochs for record in records] == [1, 2, 3, 4]
    assert [record.finished for record in records] == [False, False, False, True]
    assert records[-1].train_loss < records[0].train_loss
    for record in records:
        attributes = record.attributes()
        assert set(CONTRACT) <= set(attributes)
        assert json.loads(json.dumps(attributes, allow_nan=False)) == attributes
        assert TrialRecord.of(attributes) == record
        for name in ("auc", "sensitivity", "specificity", "precision"):
            low, value, high = (attributes[f"{name}{end}"] for end in ("_ci_low", "", "_ci_high"))
            assert 0 <= low <= value <= high <= 1
        assert set(record.per_class) == {"none", "drusen", "fluid"}
    last = records[-1].attributes()
    assert (last["family"], last["init"], last["unfreeze_depth"]) == ("resnet", "random", 1)
    assert (last["seed"], last["epochs"], last["max_epochs"]) == (7, 4, 4)
    assert last["dataset_fingerprint"] == task.data.fingerprint
    assert last["device"] == "cpu, 1 thread"
    assert last["feature_cache"]["kept"] is True
    assert 0 < last["trainable_layer_fraction"] < 1
    assert last["n_train"] == len(task.data.split("train"))
    assert 0.5 < last["train_auc"] <= 1
    assert records[-2].train_auc is None
    assert 0 < last["n_trainable_params"] < last["n_params"]


@both_precisions
@pytest.mark.parametrize("depth", [0, 1, 5])
@pytest.mark.parametrize("augmentation", ["none", "oct"])
@pytest.mark.large
def test_a_restart_changes_nothing(task: TrialTask, depth: int, augmentation: str, precision: str) -> None:
    task = training(task, precision=precision)
    chosen = params(
        unfreeze_depth=depth,
        augmentation=augmentation,
        head_dropout=0.3,
        balanced_sampling=True,
        head_lr_factor=3.0,
        layer_decay=0.7,
    )
    whole = run(chosen, replace(task, checkpoint=None))
    interrupted = run(chosen, task, epochs=2) + run(chosen, task, epochs=1) + run(chosen, task)
    assert without_varying(interrupted) == without_varying(whole)
    assert load_history(task.checkpoint) == interrupted
    assert load_history(task.checkpoint, {"seed": "another trial's"}) == []
    assert run(chosen, task) == []


def test_a_finished_trial_leaves_its_validation_predictions(task: TrialTask) -> None:
    chosen = params(unfreeze_depth=0)
    run(chosen, task, epochs=1)
    assert load_validation(task.checkpoint) == b"", "only after the last epoch"
    last = run(chosen, task)[-1]
    found = ValidationPredictions.from_bytes(load_validation(task.checkpoint))
    assert found is not None
    assert roc_auc_score(found.positive, found.scores).mean() == pytest.approx(last.auc, abs=1e-12)
    assert log_loss(found.task, found.labels, found.scores) == pytest.approx(last.log_loss, abs=1e-12)
    assert last.log_loss == pytest.approx(last.val_loss, abs=1e-6), "of images; val_loss is in float32"


def _die_after_two_epochs(chosen: TrialParams, task: TrialTask) -> None:
    torch.set_num_threads(1)
    for record in run_trial(chosen, task):
        if record.epochs == 2:
            os.kill(os.getpid(), 9)


@pytest.mark.large
def test_a_killed_process_goes_on(task: TrialTask) -> None:
    chosen = params(unfreeze_depth=5)
    process = multiprocessing.get_context("spawn").Process(target=_die_after_two_epochs, args=(chosen, task))
    process.start()
    process.join(120)
    assert process.exitcode == -9
    assert [record.epochs for record in load_history(task.checkpoint)] == [1, 2]
    rest = run(chosen, task)
    assert without_varying(rest) == without_varying(run(chosen, replace(task, checkpoint=None)))[2:]


@both_precisions
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("augmentation", ["none", "oct"])
@pytest.mark.large
def test_the_cache_does_not_change_the_loss_curve(
    task: TrialTask, depth: int, augmentation: str, precision: str
) -> None:
    """In neither precision: features are the same bits, and what follows them does the same with them."""
    chosen = params(unfreeze_depth=depth, augmentation=augmentation)
    bare = training(replace(task, checkpoint=None), precision=precision)
    kept = run(chosen, bare)
    off = run(chosen, training(bare, cache_gb=0.0))
    assert kept[-1].feature_cache.kept
    assert not off[-1].feature_cache.kept
    for one, other in zip(kept, off, strict=True):
        for name in ("train_loss", "val_loss"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "depth"), [("resnet18", 1), ("densenet121", 2), ("tf_efficientnet_lite0", 1)]
)
@pytest.mark.large
def test_the_cache_does_not_change_larger_networks(task: TrialTask, architecture: str, depth: int) -> None:
    chosen = params(architecture=architecture, unfreeze_depth=depth, learning_rate=1e-3)
    bare = replace(task, checkpoint=None, max_epochs=2)
    kept = run(chosen, bare)
    off = run(chosen, training(bare, cache_gb=0.0))
    assert kept[-1].feature_cache.kept
    for one, other in zip(kept, off, strict=True):
        for name in ("train_loss", "val_loss"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5)


def test_trials_of_a_study_share_one_pass_whatever_their_threads(task: TrialTask, tmp_path: Path) -> None:
    weights = tmp_path / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), weights)
    head, stage = (
        params(architecture="resnet10t", init=f"file:{weights}", unfreeze_depth=depth) for depth in (0, 1)
    )
    bare = replace(task, checkpoint=None, max_epochs=2, depths=frozenset({0, 1, 5}))
    alone = [
        run(chosen, replace(bare, cache_dir=tmp_path / str(k))) for k, chosen in enumerate((head, stage))
    ]
    shared = [run(head, replace(bare, threads=2)), run(stage, bare)]
    assert shared[0][-1].feature_cache.by_way_of == [4]
    assert shared[1][-1].feature_cache.built_seconds == 0
    for one, other in zip(alone, shared, strict=True):
        for name in ("train_loss", "val_loss"):
            expected = [getattr(record, name) for record in one]
            assert [getattr(record, name) for record in other] == pytest.approx(expected, rel=1e-5)


def test_seeds_decide_everything(task: TrialTask) -> None:
    bare = replace(task, checkpoint=None, max_epochs=2)
    one, same = (without_varying(run(params(), bare)) for _ in range(2))
    assert one == same
    other = run(params(), replace(bare, seed=8))
    assert other[0].train_loss != one[0].train_loss


def test_a_trial_keeps_to_its_threads(task: TrialTask) -> None:
    record = next(run_trial(params(unfreeze_depth=5), replace(task, threads=2, max_epochs=1)))
    assert record.device == "cpu, 2 threads"
    assert torch.get_num_threads() == 2


def test_a_full_disk_costs_the_cache_only(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = run(params(unfreeze_depth=0), replace(task, checkpoint=None))
    monkeypatch.setattr(os, "posix_fallocate", full)
    records = run(params(unfreeze_depth=0), replace(task, cache_dir=task.cache_dir / "other"))
    assert records[-1].finished
    assert "No space left" in records[-1].feature_cache.why
    assert [r.train_loss for r in records] == pytest.approx([r.train_loss for r in expected], rel=1e-5)


def _limit_memory(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """What is trained, from images or from features, runs out of memory beyond so many images."""

    def limit(name: str) -> None:
        unlimited = getattr(Network, name)

        def limited(self: Network, *arguments: Any) -> torch.Tensor:
            if len(arguments[-1]) > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            logits: torch.Tensor = unlimited(self, *arguments)
            return logits

        monkeypatch.setattr(Network, name, limited)

    limit("forward_rest")
    limit("logits_from")


@pytest.mark.parametrize("depth", [0, 2, 5])
@pytest.mark.parametrize("augmentation", ["none", "oct"])
def test_a_network_does_not_outlive_its_trial(task: TrialTask, depth: int, augmentation: str) -> None:
    """In a circle of references it would: a worker and its GPU would hold the networks of several trials."""

    def alive() -> int:
        return sum(type(found) is Network for found in gc.get_objects())

    chosen = params(unfreeze_depth=depth, augmentation=augmentation)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        run(chosen, task)
        assert alive() == before
        run(chosen, replace(task, checkpoint=None), epochs=1)  # stopped early
        assert alive() == before
    finally:
        gc.enable()


@both_precisions
def test_out_of_memory_is_halved_recorded_and_remembered(
    task: TrialTask, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = training(task, precision=precision)
    _limit_memory(monkeypatch, 6)
    first = run(params(unfreeze_depth=0), task, epochs=1)
    assert first[0].accumulation == "4 of 16 images at once"
    monkeypatch.undo()
    rest = run(params(unfreeze_depth=0), task)
    assert rest[-1].accumulation == "4 of 16 images at once"
    whole = run(params(unfreeze_depth=0), replace(task, checkpoint=None))
    assert whole[0].accumulation is None
    assert [r.train_loss for r in first + rest] == pytest.approx(
        [r.train_loss for r in whole], rel=LOSS_TOLERANCE[precision]
    )


def test_no_memory_at_all_is_a_clear_failure(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit_memory(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match="out of memory: training test_resnet on cpu does not fit"):
        run(params(), task)


def test_divergence_is_a_clear_failure(task: TrialTask) -> None:
    with pytest.raises(NonFiniteLossError, match=r"learning_rate = 10"):
        run(params(optimizer="sgd", learning_rate=10.0, weight_decay=1.0), replace(task, max_epochs=20))


def test_a_class_missing_from_validation_is_undefined(
    make_data: Callable[..., PreparedData], task: TrialTask
) -> None:
    labels = {f"{s}_labels": (np.arange(n) % 3)[:, None] for s, n in COUNTS.items()}
    data = relabelled(make_data(**labels), np.arange(20) % 2)
    last = run(params(unfreeze_depth=0), replace(task, data=data, max_epochs=1))[-1]
    missing = data.class_names[2]
    assert "auc" not in last.per_class[missing]
    assert last.undefined == [f"auc of class {missing!r} is undefined: no image of the split is of it"]
    assert 0 < last.auc < 1


def test_a_validation_split_of_one_class_is_refused(
    make_data: Callable[..., PreparedData], task: TrialTask
) -> None:
    data = relabelled(make_data(), np.zeros(20))
    with pytest.raises(DataError, match="validation split's 20 images are all of one class"):
        run(params(), replace(task, data=data))


def test_groups_decide_the_interval(make_data: Callable[..., PreparedData], task: TrialTask) -> None:
    groups = {f"{s}_groups": np.array([f"{s}{i // 2}" for i in range(n)]) for s, n in COUNTS.items()}
    records = run(params(unfreeze_depth=0), replace(task, data=make_data(**groups), max_epochs=2))
    assert {record.auc_interval for record in records} == {"DeLong, logit, clustered by group"}


def test_multilabel_trials_run(make_data: Callable[..., PreparedData], task: TrialTask) -> None:
    random = np.random.default_rng(1)
    labels = {f"{s}_labels": random.integers(0, 2, (n, 3)).astype(np.uint8) for s, n in COUNTS.items()}
    chosen = params(unfreeze_depth=1, class_weights=True, label_smoothing=0.1, balanced_sampling=True)
    records = run(chosen, replace(task, data=make_data(**labels), max_epochs=2))
    assert len(records[-1].per_class) == 3


def test_colour_and_a_part_of_the_images(make_data: Callable[..., PreparedData], task: TrialTask) -> None:
    random = np.random.default_rng(2)
    images = {
        f"{s}_images": random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for s, n in COUNTS.items()
    }
    chosen = params(
        unfreeze_depth=0, train_fraction=0.5, head_hidden=8, head_pooling="avgmax", decay="exponential"
    )
    records = run(chosen, replace(task, data=make_data(**images), max_epochs=2))
    assert records[-1].finished


@pytest.mark.large
def test_a_part_of_the_images_is_whole_patients(
    make_data: Callable[..., PreparedData], task: TrialTask
) -> None:
    groups = {f"{s}_groups": np.arange(n) // 5 for s, n in COUNTS.items()}
    labels = {f"{s}_labels": (np.arange(n) // 5 % 2)[:, None] for s, n in COUNTS.items()}
    data = make_data(**groups, **labels)
    chosen = params(unfreeze_depth=5, train_fraction=0.5)
    task = replace(task, data=data, max_epochs=1, checkpoint=None)
    images = np.load(data.folder / "train_images.npy")
    record = run(chosen, task)[0]
    touched = set()
    for image in range(len(images)):
        changed = images.copy()
        changed[image] = 255 - changed[image]
        np.save(data.folder / "train_images.npy", changed)
        if run(chosen, task)[0].train_loss != record.train_loss:
            touched.add(image)
    assert record.n_train == len(touched) == 20
    assert touched == {image for image in range(len(images)) if image // 5 in {i // 5 for i in touched}}


def test_another_trials_checkpoint_is_refused(task: TrialTask) -> None:
    run(params(), task, epochs=1)
    with pytest.raises(
        RunError, match=r"trial\.ckpt: this checkpoint is another trial's \(it differs in seed\)"
    ):
        run(params(), replace(task, seed=8))
    with pytest.raises(RunError, match=r"differs in parameters, max_epochs"):
        run(params(batch_size=8), replace(task, max_epochs=9))


def test_a_torn_checkpoint_starts_anew(task: TrialTask) -> None:
    expected = run(params(unfreeze_depth=0), task)
    path = task.checkpoint
    assert path is not None
    path.write_bytes(path.read_bytes()[:-100])
    assert load_history(path) == []
    assert without_varying(run(params(unfreeze_depth=0), task)) == without_varying(expected)


def test_a_frozen_prefix_has_a_small_checkpoint(task: TrialTask) -> None:
    sizes = {}
    for depth in (0, 5):
        path = task.cache_dir / f"{depth}.ckpt"
        run(params(unfreeze_depth=depth), replace(task, checkpoint=path), epochs=1)
        sizes[depth] = path.stat().st_size
    assert sizes[0] < sizes[5] / 50
