"""One trial as a plain function: parameters in, one record for each epoch out. No Ray, no Optuna."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medfathom.data.prepared import PreparedData, Split
from medfathom.definitions import TrainingConfig
from medfathom.errors import DataError, RunError
from medfathom.models.build import HeadOptions, Network, build_network
from medfathom.models.freezing import calibrate_batch_norm
from medfathom.spaces import TrialParams
from medfathom.training.checkpoint import (
    Checkpoint,
    EpochRecord,
    load_checkpoint,
    load_history,
    save_checkpoint,
)
from medfathom.training.feature_cache import FeatureCache
from medfathom.training.fit import Fit, FitSettings, NonFiniteLossError
from medfathom.training.inputs import FeatureInputs, ImageInputs, Inputs
from medfathom.training.losses import Loss
from medfathom.training.memory import PeakMemory
from medfathom.training.metrics import Evaluation, evaluate, positives
from medfathom.training.outputs import num_outputs, probabilities
from medfathom.training.prefix import Prefix
from medfathom.training.randomness import derived_seed
from medfathom.training.rows import open_rows
from medfathom.training.sampling import training_subset

__all__ = ["EpochRecord", "TrialTask", "load_history", "run_trial"]

CALIBRATION_IMAGES = 512
"""Training images from which a random prefix's batch-norm statistics are estimated."""


@dataclass(frozen=True)
class TrialTask:
    """Everything of a trial but its parameters."""

    data: PreparedData
    training: TrainingConfig
    max_epochs: int
    seed: int
    cache_dir: Path
    checkpoint: Path | None
    device: str
    """`cpu`, `cuda:0`, …"""
    threads: int
    """CPU threads that the trial may use."""


def run_trial(params: TrialParams, task: TrialTask) -> Iterator[EpochRecord]:
    """Train one network, epoch by epoch.

    The caller stops a trial early by asking no further (`close()`). With a checkpoint there, training goes on
    after its last epoch, as if never interrupted; the earlier records are had through `load_history`.

    Yields:
        One record for each epoch, after its checkpoint is on disk.

    Raises:
        RunError: training diverged, or memory ran out.
        InputError: the architecture, its weights or the data cannot be used.
    """
    torch.set_num_threads(task.threads)
    trial = _Trial(params, task)
    for epoch in range(trial.first_epoch, task.max_epochs + 1):
        yield trial.run_epoch(epoch)


class _Trial:
    """The parts of a running trial."""

    def __init__(self, params: TrialParams, task: TrialTask) -> None:
        self._params, self._task = params, task
        self._started = time.perf_counter()
        self._device = torch.device(task.device)
        self._peak = PeakMemory(self._device)
        self._peak.start()
        self._train, self._val = task.data.split("train"), task.data.split("val")
        _check_validation(task.data, self._val)
        self._network = _build(params, task)
        self._subset = training_subset(task.data.task, self._train.labels, params.train_fraction, task.seed)
        self._autocast = task.training.precision == "bfloat16"
        train_inputs, self._val_inputs = self._inputs()
        settings = FitSettings(
            task=task.data.task,
            n_outputs=num_outputs(task.data.task, len(task.data.class_names)),
            max_epochs=task.max_epochs,
            seed=task.seed,
            device=self._device,
            autocast=self._autocast,
        )
        self._fit = Fit(
            self._network,
            train_inputs,
            self._train.labels,
            subset=self._subset,
            params=params,
            settings=settings,
        )
        self._val_loss = Loss(
            task.data.task, torch.from_numpy(np.array(self._val.labels, np.int64)), settings.n_outputs
        )
        self._history: list[EpochRecord] = []
        self._train_seconds = 0.0
        self._restore()

    @property
    def first_epoch(self) -> int:
        """The epoch that comes next."""
        return len(self._history) + 1

    def _inputs(self) -> tuple[Inputs, Inputs]:
        train, val = (
            ImageInputs(self._network, open_rows(split.images, self._device), self._device)
            for split in (self._train, self._val)
        )
        if self._params.unfreeze_depth == 5 or self._task.training.cache_gb == 0:
            return train, val
        data, network = self._task.data, self._network
        key = {
            "format": 1,
            "data": data.fingerprint,
            "architecture": self._params.architecture,
            "weights": network.weights_hash,
            "calibrated": _calibrates(self._params, self._task),
            "cut": 5 - self._params.unfreeze_depth,
            "image_size": data.image_size,
            "channels": [data.channels, self._task.training.grey],
            "precision": "bfloat16" if self._autocast else "float32",
            "device": self._device.type,
        }
        folder = self._task.cache_dir / "features"
        store = FeatureCache(folder, int(self._task.training.cache_gb * 1e9))
        prefix = Prefix(network, self._device, self._autocast, store, key)
        return (
            FeatureInputs(network, lambda _: prefix.open("train", "none", train), views=1),
            FeatureInputs(network, lambda _: prefix.open("val", "none", val), views=1),
        )

    def _identity(self) -> dict[str, Any]:
        return {
            "params": self._params.model_dump(mode="json"),
            "seed": self._task.seed,
            "max_epochs": self._task.max_epochs,
            "data": self._task.data.fingerprint,
        }

    def _restore(self) -> None:
        path = self._task.checkpoint
        checkpoint = None if path is None else load_checkpoint(path, self._device)
        if checkpoint is None:
            return
        mine = self._identity()
        differing = [name for name in mine if checkpoint.identity.get(name) != mine[name]]
        if differing:
            raise RunError(
                f"{path}: this checkpoint is another trial's (it differs in {', '.join(differing)}); "
                "move it away, or give the trial its own file"
            )
        self._network.load_trained_state(checkpoint.state["network"])
        self._fit.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self._fit.micro_batch = checkpoint.settings["micro_batch"]
        self._history = checkpoint.history
        self._train_seconds = checkpoint.settings["train_seconds"]

    def run_epoch(self, epoch: int) -> EpochRecord:
        """Train, validate, checkpoint."""
        before = time.perf_counter()
        train_loss = self._fit.train_epoch(epoch)
        fit_seconds = time.perf_counter() - before
        metrics, evaluation = self._validate(last=epoch == self._task.max_epochs)
        self._train_seconds += time.perf_counter() - self._started
        self._started = time.perf_counter()
        record = EpochRecord(
            epoch=epoch,
            metrics={"train_loss": train_loss, **metrics},
            finished=epoch == self._task.max_epochs,
            attributes=self._attributes(epoch, evaluation, len(self._subset) / fit_seconds),
        )
        self._history.append(record)
        self._save()
        return record

    def _validate(self, *, last: bool) -> tuple[dict[str, float], Evaluation]:
        logits = self._fit.predict(self._val_inputs, max(self._params.batch_size, 64))
        if not np.isfinite(logits).all():
            raise NonFiniteLossError(
                "non-finite outputs on the validation split: training diverged with learning_rate = "
                f"{self._params.learning_rate:g}; lower learning_rate or raise warmup_fraction"
            )
        data = self._task.data
        targets = torch.from_numpy(np.array(self._val.labels, np.int64))
        evaluation = evaluate(
            data.task,
            self._val.labels,
            probabilities(data.task, logits),
            data.class_names,
            groups=self._val.groups,
            bootstrap=last,
            seed=derived_seed(self._task.seed, "bootstrap"),
        )
        val_loss = float(self._val_loss.sum(torch.from_numpy(logits), targets)) / len(targets)
        return {"val_loss": val_loss, **evaluation.overall}, evaluation

    def _attributes(self, epoch: int, evaluation: Evaluation, images_per_second: float) -> dict[str, Any]:
        facts = self._network.facts
        attributes = {
            "architecture": self._params.architecture,
            "family": facts.family,
            "init": self._params.init,
            "init_source": self._network.init_source,
            "unfreeze_depth": self._params.unfreeze_depth,
            "n_params": facts.n_params,
            "n_trainable_params": facts.n_trainable_params,
            "trainable_fraction": facts.trainable_fraction,
            "depth": facts.depth,
            "macs": facts.macs,
            "seed": self._task.seed,
            "epochs": epoch,
            "max_epochs": self._task.max_epochs,
            "train_seconds": self._train_seconds,
            "images_per_second": images_per_second,
            "peak_memory_bytes": self._peak.bytes(),
            "device": _device_name(self._device),
            "dataset_fingerprint": self._task.data.fingerprint,
            "versions": versions(),
            **evaluation.overall,
            "auc_interval": evaluation.auc_interval,
        }
        if evaluation.per_class:
            attributes["per_class"] = evaluation.per_class
        if evaluation.undefined:
            attributes["undefined"] = evaluation.undefined
        return attributes

    def _save(self) -> None:
        if self._task.checkpoint is None:
            return
        state = {"network": self._network.trained_state(), "optimizer": self._fit.optimizer.state_dict()}
        settings = {"micro_batch": self._fit.micro_batch, "train_seconds": self._train_seconds}
        save_checkpoint(self._task.checkpoint, Checkpoint(self._identity(), self._history, settings, state))


def _check_validation(data: PreparedData, val: Split) -> None:
    """A split in which no class has both members and others cannot rank models."""
    n_columns = 1 if data.task == "binary" else len(data.class_names)
    counts = positives(data.task, val.labels, n_columns).sum(axis=0)
    if not ((counts > 0) & (counts < len(val))).any():
        raise DataError(
            f"{data.folder}: the validation split's {len(val)} images are all of one class: "
            "its AUC is undefined; give a validation split that has both"
        )


def _calibrates(params: TrialParams, task: TrialTask) -> bool:
    """Whether a frozen prefix's batch-norm statistics are noise, and are to be estimated first."""
    random = params.init in ("random", "imagenet-stats")
    return random and params.unfreeze_depth < 5 and task.training.calibrate_batch_norm


def _build(params: TrialParams, task: TrialTask) -> Network:
    data, training = task.data, task.training
    network = build_network(
        params.architecture,
        init=params.init,
        num_outputs=num_outputs(data.task, len(data.class_names)),
        unfreeze_depth=params.unfreeze_depth,
        image_size=data.image_size,
        in_channels=data.channels,
        seed=derived_seed(task.seed, "weights"),
        head=HeadOptions(dropout=params.head_dropout, pooling=params.head_pooling, hidden=params.head_hidden),
        grey=training.grey,
        weights_dir=None if training.weights_dir is None else Path(training.weights_dir),
    )
    device = torch.device(task.device)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if _calibrates(params, task):
        images = ImageInputs(network, open_rows(data.split("train").images, device), device)
        rows = images.rows(1)
        count = min(CALIBRATION_IMAGES, len(rows))
        # A fixed choice of images: the statistics, and with them the cached features, follow from weights and
        # data.
        chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
        batches = rows.batches(np.array_split(chosen, -(-count // 64)))
        calibrate_batch_norm(network, (images.prepare(raw, None) for raw in batches))
    return network


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


@cache
def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("medfathom", "torch", "torchvision", "timm", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
