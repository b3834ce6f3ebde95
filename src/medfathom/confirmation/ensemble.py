"""Several confirmed models as one: which of them, and what the mean of their probabilities is worth.

Members are chosen on the validation split, and there it is decided whether the ensemble is kept. The test
split only tells what was gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfathom.confirmation.find import confirmed_folder, image_predictions_file, predictions_file
from medfathom.confirmation.gain import Gains, find_gains, gain_on, predicted_on_validation, verdict
from medfathom.confirmation.predictions import read_logits, read_predictions, write_predictions_like
from medfathom.confirmation.summary import best_model
from medfathom.errors import InputError
from medfathom.metrics.calibration import fit_temperature, thresholds_of
from medfathom.metrics.cases import cases_of, combine_logits
from medfathom.metrics.classification import log_loss
from medfathom.metrics.probabilities import probabilities
from medfathom.models.folder import ModelConfig, read_config, write_config
from medfathom.study.choice import rule_of

if TYPE_CHECKING:
    from optuna.study import Study

    from medfathom.confirmation.results import ConfirmationSummary, ConfirmedModel
    from medfathom.metrics.influences import Floats

ENSEMBLE = "ensemble"
"""Attribute of a search study: the ensemble of its confirmed models."""


class Ensemble(Gains):
    """An ensemble of confirmed models, against the single best one.

    Attributes:
        asked: how many members it may have.
        members: their trials in the confirmation, in the order in which they were chosen.
        single: trial of the model that `export` takes alone.
        candidates: among how many models they were chosen.
        val_log_loss, single_val_log_loss: of calibrated probabilities on the validation split.
        requested: whether it is kept whatever it gains.
        kept: whether `export --ensemble` writes it.
    """

    asked: int
    members: list[int]
    single: int
    candidates: int
    val_log_loss: float
    single_val_log_loss: float
    requested: bool
    kept: bool


class MemberOutputs:
    """What several models say of one split, ready to be averaged.

    Attributes:
        labels: of its images or cases.
        groups: each one's patient; None: not known.
        image_labels: of its images.
    """

    def __init__(self, folders: Sequence[Path], configs: Sequence[ModelConfig], split: str) -> None:
        """Raises StorageError where predictions are gone."""
        first = configs[0]
        self._task, self._combine, self._member = first.task, first.combine, None
        read = read_predictions(predictions_file(folders[0], split))
        self.labels, self.groups = read.labels(first.task), read.groups
        self.image_labels = self.labels
        place = predictions_file
        if first.unit != "image":
            place = image_predictions_file
            self.image_labels = read_predictions(place(folders[0], split)).labels(first.task)
            _, cases = read_logits(place(folders[0], split))
            self._member = cases_of([] if cases is None else cases).member
        self._logits = [
            read_logits(place(folder, split))[0] / (config.image_temperature or config.temperature)
            for folder, config in zip(folders, configs, strict=True)
        ]

    def image_average(self, chosen: Sequence[int]) -> Floats:
        """Logits of each image's mean probability over some of the models, (n, outputs)."""
        chosen_logits = [self._logits[k] for k in chosen]
        same_image = np.tile(np.arange(len(chosen_logits[0])), len(chosen_logits))
        return combine_logits(self._task, np.concatenate(chosen_logits), same_image, "mean")

    def average(self, chosen: Sequence[int]) -> Floats:
        """The same of each image or case that is judged, (m, outputs)."""
        images = self.image_average(chosen)
        if self._member is None:
            return images
        return combine_logits(self._task, images, self._member, self._combine)

    def log_loss(self, chosen: Sequence[int]) -> float:
        """Of the mean probabilities of some of the models."""
        return log_loss(self._task, self.labels, probabilities(self._task, self.average(chosen)))


def choose_members(outputs: MemberOutputs, candidates: int, most: int) -> list[int]:
    """Greedy forward selection by log loss (Caruana et al., ICML 2004), without replacement.

    The best model first; then always the one that lowers the loss of the mean most, until none does. Each
    counts alike and at most once: a network in an ensemble costs its time whatever its weight.

    Args:
        outputs: on the validation split.
        candidates: how many models there are.
        most: how many are taken at most.

    Returns:
        Positions, in the order in which they were chosen.
    """
    chosen: list[int] = []
    lowest = np.inf
    while len(chosen) < min(most, candidates):
        losses = {k: outputs.log_loss([*chosen, k]) for k in range(candidates) if k not in chosen}
        best = min(losses, key=losses.__getitem__)
        if losses[best] >= lowest:
            break
        chosen.append(best)
        lowest = losses[best]
    return chosen


def find_ensemble(study: Study, summary: ConfirmationSummary, most: int, *, requested: bool) -> Ensemble:
    """Choose the members, and compare their mean with the single best model.

    What it predicts is written to `ensemble_folder`.

    Raises:
        InputError: the best model weighs images by attention, which has no mean image by image.
        StorageError: predictions are gone.
    """
    single = best_model(summary.strata[0], rule_of(study))
    pool = _candidates(single, [model for result in summary.strata for model in result.models])
    folders = [model.folder for model in pool]
    val = MemberOutputs(folders, [read_config(folder) for folder in folders], "val")
    members = [pool[k] for k in choose_members(val, len(pool), most)]
    folder = ensemble_folder(study)
    _write(folder, [model.folder for model in members])
    gains = find_gains(folder, single.folder)
    return Ensemble(
        **dict(gains),
        asked=most,
        members=[model.trial for model in members],
        single=single.trial,
        candidates=len(pool),
        val_log_loss=_log_loss(folder),
        single_val_log_loss=_log_loss(single.folder),
        requested=requested,
        kept=len(members) > 1 and (requested or gains.pays),
    )


def ensemble_folder(study: Study) -> Path:
    """Where the configuration and the predictions of a search study's ensemble lie; no weights."""
    return confirmed_folder(study) / "ensemble"


def _candidates(single: ConfirmedModel, models: Sequence[ConfirmedModel]) -> list[ConfirmedModel]:
    """Models that read images of the same size, and combine a case's images alike."""
    own = read_config(single.folder)
    if own.combine == "attention":
        raise InputError(
            "--ensemble: the best model weighs the images of a case by attention; an ensemble averages image "
            "by image, so it needs [unit] combine = mean, max or noisy_or"
        )
    configs = [read_config(model.folder) for model in models]
    same = (own.image_size, own.combine)
    return [m for m, c in zip(models, configs, strict=True) if (c.image_size, c.combine) == same]


def _write(folder: Path, members: Sequence[Path]) -> None:
    """Fit temperature and thresholds on the validation split; write them, and the predictions."""
    configs = [read_config(member) for member in members]
    val, test = (MemberOutputs(members, configs, split) for split in ("val", "test"))
    config = _fitted(configs, val)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    for split, outputs in (("val", val), ("test", test)):
        logits = outputs.average(range(len(members)))
        values = config.calibrated(logits)
        write_predictions_like(
            predictions_file(members[0], split), predictions_file(folder, split), values, logits
        )


def _fitted(configs: Sequence[ModelConfig], val: MemberOutputs) -> ModelConfig:
    first, everyone = configs[0], range(len(configs))
    logits = val.average(everyone)
    fitted = first.fitted(first.calibration, val.labels, logits)
    values = fitted.calibrated(logits)
    plain = {"calibration": "temperature", "curves": []}  # members are averaged after their temperatures
    update: dict[str, object] = {
        "architecture": " + ".join(config.architecture for config in configs),
        "init": " + ".join(dict.fromkeys(config.init for config in configs)),
        "thresholds": thresholds_of(first.task, val.labels, values, first.threshold_rule),
        "members": [config.model_copy(update=plain) for config in configs],
    }
    if first.unit != "image":
        images = val.image_average(everyone)
        update["image_temperature"] = fit_temperature(first.task, val.image_labels, images)
    return fitted.model_copy(update=update)


def _log_loss(folder: Path) -> float:
    """Of a model's calibrated probabilities on the validation split."""
    task = read_config(folder).task
    read = predicted_on_validation(folder)
    return log_loss(task, read.labels(task), read.probabilities)


def read_ensemble(study: Study) -> Ensemble | None:
    """What the latest `confirm --ensemble` found; None: nobody asked."""
    found = study.user_attrs.get(ENSEMBLE)
    return None if found is None else Ensemble.model_validate(found)


def ensemble_lines(found: Ensemble) -> list[str]:
    """Who they are, what they gain, whether it is kept."""
    if len(found.members) == 1:
        return [
            f"No ensemble: none of {found.candidates} models lowers the validation log loss of the best one "
            f"(trial {found.members[0]} of the confirmation)."
        ]
    who = ", ".join(map(str, found.members))
    return [
        f"Ensemble of {len(found.members)} models (trials {who} of the confirmation), chosen among "
        f"{found.candidates} by validation log loss: {found.val_log_loss:.4f}, against "
        f"{found.single_val_log_loss:.4f} of the single best model.",
        f"Validation AUC {gain_on('validation', found)} {verdict(found, kept=found.kept)}",
        f"Test AUC {gain_on('test', found)}",
    ]
