"""One training, epoch by epoch: of a trial, or of one of its folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from medfathom.data.prepared import JointData, PreparedData, Split
from medfathom.definitions.space import TrialParams
from medfathom.errors import RunError
from medfathom.metrics.cases import cases_of
from medfathom.metrics.probabilities import num_outputs
from medfathom.models.graph.layer_groups import GROUPS
from medfathom.models.network import Network
from medfathom.trial.alike import trains_one_layer
from medfathom.trial.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from medfathom.trial.cross_validation import RunningFold
from medfathom.trial.features.cache import FeatureCache
from medfathom.trial.feeding import Feed, Feeding, feed
from medfathom.trial.fit import Fit, FitSettings, NonFiniteLossError
from medfathom.trial.judging import over_datasets
from medfathom.trial.latency import latency_ms
from medfathom.trial.memory import PeakMemory
from medfathom.trial.mixture import Mixture, members_of
from medfathom.trial.network import calibrates, draws_weights, identity_record, network_beside, network_of
from medfathom.trial.parts import kept_predictions, mean_or_none, name_of_rows, rows_to_train, trial_parts
from medfathom.trial.precision import runs_in_bfloat16
from medfathom.trial.record import FoldScore, Phase, SplitMetrics, TrialRecord
from medfathom.trial.strategy import Groups, Strategy, with_epoch
from medfathom.trial.task import INFERENCE_BATCH, TrialTask, identity_of
from medfathom.trial.threads import worthwhile_threads


class Training:
    """The parts of a running training."""

    def __init__(
        self,
        params: TrialParams,
        task: TrialTask,
        fold: RunningFold | None = None,
        beside: Training | None = None,
    ) -> None:
        """`beside` trains an `alike` trial: its backbone, which stands still, serves this one too."""
        began = time.perf_counter()
        self._params, self._task, self._fold = params, task, fold
        self._device = torch.device(task.device)
        self._peak = PeakMemory(self._device)
        if beside is None:  # else it would forget what the features of both took
            self._peak.start()
        self._parts = trial_parts(task.data, fold)
        self._train = _training_images(task.data, fold)
        self._subset = rows_to_train(self._parts, params, task.seed)
        self._strategy = Strategy(params, task.max_epochs)
        self._network: Network = (
            network_of(params, task, self._train, self._subset)
            if beside is None
            else network_beside(beside._network, params, task)
        )
        self._autocast = runs_in_bfloat16(task.training.precision, self._device)
        self._feeding = self._feed()
        settings = FitSettings(
            task=task.data.task,
            n_outputs=num_outputs(task.data.task, len(task.data.class_names)),
            max_epochs=task.max_epochs,
            seed=task.seed,
            device=self._device,
            autocast=self._autocast,
            threads=self._threads(),
        )
        self.fit = Fit(
            self._network,
            self._feeding.train,
            self._train.labels,
            subset=self._subset,
            params=params,
            settings=settings,
            member=self._attended_cases(),
            mixture=self._mixture(),
        )
        self._history: list[TrialRecord] = []
        self._seconds = 0.0
        self._restore()
        self._seconds += time.perf_counter() - began

    def _mixture(self) -> Mixture | None:
        """How several data sets are mixed."""
        data = self._task.data
        if not isinstance(data, JointData):
            return None
        return Mixture(members_of(data), self._train.labels[self._subset], self._params, self._task.seed)

    @property
    def _done(self) -> int:
        """Epochs of the folds before this one."""
        return 0 if self._fold is None else len(self._fold.before) * self._task.max_epochs

    def epochs_left(self) -> range:
        """The epochs of this training that are to be run."""
        latest = self._history[-1].epochs or 0 if self._history else 0
        return range(max(latest - self._done, 0) + 1, self._task.max_epochs + 1)

    def with_own_head(self, params: TrialParams, task: TrialTask) -> Training:
        """The training of an `alike` trial, with the same backbone."""
        return Training(params, task, beside=self)

    @property
    def can_be_beside(self) -> bool:
        """Whether its head may be fitted beside others, see `trial.stack`.

        A GPU draws dropout for all of a batch at once: it would be another one beside others.
        """
        joint, drops = isinstance(self._task.data, JointData), self._params.head_dropout > 0
        one_set = self._fold is None and not joint
        return trains_one_layer(self._params) and one_set and not (drops and self._device.type != "cpu")

    def fits_one_layer(self, epoch: int) -> bool:
        """Whether an epoch trains no more than a linear head, over kept features."""
        kept = self._feeding.kept
        if not self.can_be_beside or kept is None or kept.cut != GROUPS:
            return False
        self.fit.inputs.rows(epoch)  # computes the features; where that fails, they are not kept
        return self._feeding.keeps_features

    def _open(self, groups: Groups) -> None:
        """Train these layer groups from now on."""
        if groups == self._network.open_groups:
            return
        self._network.open(groups)
        self._feeding = self._feed()
        self.fit.enter(self._feeding.train, self._threads())

    def _groups_of(self, epoch: int) -> Groups:
        """The layer groups that are trained in an epoch of this training."""
        losses = [r.train_loss or 0.0 for r in self._history if (r.epochs or 0) > self._done]
        return self._strategy.trained_in(epoch, losses[: epoch - 1])

    def _threads(self) -> int:
        macs = self._feeding.macs_from_features * self._params.batch_size
        return worthwhile_threads(macs, self._task.threads)

    def _feed(self) -> Feeding:
        params, task = self._params, self._task
        calibrated = calibrates(params, task) and name_of_rows(self._subset, len(self._train))
        return feed(
            Feed(
                network=self._network,
                device=self._device,
                autocast=self._autocast,
                train_images=self._train.images,
                val_images=self._train.images if self._fold else task.data.split("val").images,
                n_used=len(self._subset),
                epochs=self._strategy.expected_epochs(self._network.open_groups),
                preset=params.augmentation,
                views=task.training.cached_views,
                shared=not draws_weights(params),
                depths=task.depths | self._strategy.depths,
                cache=FeatureCache(task.cache_dir / "features", int(task.training.cache_gb * 1e9)),
                splits=("train", "val") if self._fold is None else ("pool", "pool"),
                key=partial(_features_key, params, task, self._network, calibrated, autocast=self._autocast),
            )
        )

    def _attended_cases(self) -> NDArray[np.intp] | None:
        """The case of each used training image, where the head weighs images of a case by attention."""
        if self._params.combine != "attention" or self._train.cases is None:
            return None
        return cases_of(self._train.cases[self._subset]).member

    def _restore(self) -> None:
        path = self._task.checkpoint
        checkpoint = None if path is None else load_checkpoint(path, self._device)
        if checkpoint is None:
            return
        mine = identity_of(self._params, self._task)
        differing = [name for name in mine if checkpoint.identity.get(name) != mine[name]]
        if differing:
            raise RunError(
                f"{path}: this checkpoint is another trial's (it differs in {', '.join(differing)}); "
                "move it away, or give the trial its own file"
            )
        self._history = checkpoint.history
        self._seconds = checkpoint.train_seconds
        epoch = (self._history[-1].epochs or 0) - self._done
        if epoch > 0:
            self._open(self._groups_of(epoch))
        self.fit.resume(checkpoint.micro_batch)
        if epoch > 0:  # else a fold ended, and the next begins
            self._network.load_trained_state(checkpoint.network)
            self.fit.optimizer.load_state_dict(checkpoint.optimizer)

    def run_epoch(self, epoch: int) -> TrialRecord:
        """Train, validate, write the checkpoint."""
        began = time.perf_counter()
        self._open(self._groups_of(epoch))
        opened = time.perf_counter()
        train_loss = self.fit.train_epoch(epoch)
        self._seconds += opened - began
        return self.end_epoch(epoch, train_loss, time.perf_counter() - opened)

    def end_epoch(self, epoch: int, train_loss: float, fit_seconds: float, beside: int = 0) -> TrialRecord:
        """Validate, write the checkpoint; the epoch's training took so long, beside so many others."""
        began = time.perf_counter()
        last = epoch == self._task.max_epochs
        logits = self._predict_validation()
        how = self._params.combine, self._task.objective
        own = [part.judge(each, *how) for part, each in zip(self._parts, logits, strict=True)]
        metrics, scores = self._together(own, logits)
        train_auc = self._auc_on_training_images() if last else None
        judged = time.perf_counter()
        self._seconds += fit_seconds + judged - began
        record = self._record(
            self._done + epoch,
            metrics,
            scores,
            train_loss=train_loss,
            val_loss=float(np.mean([score.val_loss for score in scores]))
            if scores
            else self._loss_on_validation(logits),
            train_auc=train_auc,
            images_per_second=len(self._subset) / fit_seconds,
            beside=beside,
        )
        if isinstance(self._task.data, JointData):
            record = record.model_copy(
                update={"datasets": dict(zip(self._task.data.names, own, strict=True))}
            )
        if last and self._task.measures_latency:
            record = record.model_copy(update={"latency_ms": self._latency_ms()})
        if self._history:  # what intervals need of a fold is large, and only the latest is read
            self._history[-1] = self._history[-1].model_copy(update={"folds": None})
        self._history.append(record)
        self._save(
            kept_predictions(self._parts, logits, self._params.combine) if last and not self._fold else b""
        )
        self._seconds += time.perf_counter() - judged
        return record

    def _latency_ms(self) -> float:
        data = self._task.data
        return latency_ms(self._network, (data.channels, data.image_size, data.image_size), self._device)

    def _predict_validation(self) -> list[NDArray[np.float32]]:
        """The logits of each data set's own images, from its own head."""
        found = []
        for part in self._parts:
            self._network.use_norms_of(part.place)
            logits = self.fit.predict(self._feeding.val, INFERENCE_BATCH, part.val_rows)
            found.append(logits[:, part.columns])
        if not all(np.isfinite(logits).all() for logits in found):
            raise NonFiniteLossError(
                "non-finite outputs on the validation split: training diverged with learning_rate = "
                f"{self._params.learning_rate:g}; lower learning_rate or raise warmup_fraction"
            )
        return found

    def _together(
        self, own: Sequence[SplitMetrics], logits: Sequence[NDArray[np.float32]]
    ) -> tuple[SplitMetrics, list[FoldScore] | None]:
        """Means over data sets; of a fold over the folds so far, and the score of each."""
        if self._fold is None:
            names = [part.name for part in self._parts]
            return over_datasets(dict(zip(names, own, strict=True))), None
        judged = self._fold.judged(self._task.data, self._parts[0].val, logits[0], self._params.combine)
        loss = self._loss_on_validation(logits)
        latest = FoldScore(judged=judged, val_loss=loss, log_loss=own[0].log_loss)
        return self._fold.together(latest, own[0]), [*self._fold.before, latest]

    def _loss_on_validation(self, logits: Sequence[NDArray[np.float32]]) -> float:
        """The mean over data sets."""
        pairs = zip(self._parts, logits, strict=True)
        return float(np.mean([part.loss(each, self._params.combine) for part, each in pairs]))

    def _auc_on_training_images(self) -> float | None:
        """AUC on some of what was trained on, the mean over data sets; None: undefined."""
        found = []
        for part in self._parts:
            self._network.use_norms_of(part.place)
            predict = partial(self.fit.predict, self._feeding.train, INFERENCE_BATCH)
            found.append(part.train_auc(predict, self._subset, self._params.combine))
        return mean_or_none(found)

    def _record(
        self,
        epoch: int,
        metrics: SplitMetrics,
        scores: list[FoldScore] | None,
        *,
        train_loss: float,
        val_loss: float,
        train_auc: float | None,
        images_per_second: float,
        beside: int,
    ) -> TrialRecord:
        measured = {
            "n_train": len(self._subset),
            "epochs": epoch,
            "train_seconds": self._seconds,
            "images_per_second": images_per_second,
            "peak_memory_bytes": self._peak.bytes(),
            "feature_cache": self._feeding.record(),
            "phases": self._phases(epoch),
            "accumulation": self._accumulation(),
            "fitted_beside": max(beside, self._beside_before()) or None,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "train_auc": train_auc,
            "folds": scores,
            "fold_aucs": None if scores is None else [score.judged.auc for score in scores],
        }
        return self._identity.model_copy(update=metrics.model_dump() | measured)

    @cached_property
    def _identity(self) -> TrialRecord:
        return identity_record(self._params, self._task, self._network)

    def _beside_before(self) -> int:
        return (self._history[-1].fitted_beside or 0) if self._history else 0

    def _phases(self, epoch: int) -> list[Phase]:
        before = self._history[-1].phases if self._history else None
        return with_epoch(
            before or (), epoch, self._network.open_groups, features_kept=self._feeding.keeps_features
        )

    def _accumulation(self) -> str | None:
        at_once, batch = self.fit.portions.at_once, self._params.batch_size
        return f"{at_once} of {batch} images at once" if at_once < batch else None

    def _save(self, validation: bytes) -> None:
        if self._task.checkpoint is None:
            return
        checkpoint = Checkpoint(
            identity=identity_of(self._params, self._task),
            history=self._history,
            micro_batch=self.fit.portions.at_once,
            train_seconds=self._seconds,
            network=self._network.trained_state(),
            optimizer=self.fit.optimizer.state_dict(),
            validation=validation,
        )
        save_checkpoint(self._task.checkpoint, checkpoint)


def _features_key(
    params: TrialParams,
    task: TrialTask,
    network: Network,
    calibrated: bool | str,
    cut: int,
    *,
    autocast: bool,
) -> dict[str, object]:
    """What features at a cut follow from; `calibrated`: on which images.

    No method: features would hold the training that holds them, and its network would stay in memory.
    """
    data = task.data
    return {
        "format": 4,
        "data": data.fingerprint,
        "architecture": params.architecture,
        "weights": network.weights_hash,
        "calibrated": calibrated,
        # Only the last group pools.
        "pooling": params.head_pooling if cut == GROUPS else None,
        "normalization": network.backbone_normalization,
        "image_size": data.image_size,
        "channels": [data.channels, task.training.grey],
        "precision": "bfloat16" if autocast else "float32",
        "device": torch.device(task.device).type,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def _training_images(data: PreparedData, fold: RunningFold | None) -> Split:
    """The images of which some are trained on; of a fold its whole pool."""
    return data.split("train") if fold is None else fold.folds.pool
