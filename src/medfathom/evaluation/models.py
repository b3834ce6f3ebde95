"""The model that is evaluated: an exported folder, or the best model of a confirmed study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from optuna.study import Study

from medfathom.confirmation.choice_of_model import choose_configuration
from medfathom.data.prints import Prints, find_prepared, prints_of, read_prints
from medfathom.errors import ExportedModelError, InputError, StorageError
from medfathom.exported.model import Model, load, load_unsealed
from medfathom.files import home
from medfathom.models.folder import METRICS_FILE, PRINTS_FILE, ModelConfig
from medfathom.study.choice import rule_of
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from medfathom.text import printable
from medfathom.trial.record import SplitMetrics


@dataclass(frozen=True)
class JudgedModel:
    """A model to evaluate.

    Attributes:
        model: at work.
        folder: where it lies.
        exported: whether the folder is an exported one, whose files have hashes.
        internal: metrics on its own test split; None: it does not say.
        prints: of the images that it was trained on; None: not known.
        study: that it comes from; None: not in this storage.
    """

    model: Model
    folder: Path
    exported: bool
    internal: SplitMetrics | None
    prints: Prints | None
    study: Study | None

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config

    @property
    def words(self) -> str:
        """What it is called in an evaluation."""
        config = self.config
        return f"{config.architecture}, {config.origin}"


def open_model(model: str | Path, device: str, storage: str | None) -> JudgedModel:
    """An exported model by its folder, or the best confirmed model of a study by its name; one is there.

    Raises:
        InputError: the folder was altered, nothing is confirmed, or the device is not there.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"--device {device}: this machine has no such device; cpu always works")
    folder = Path(model)
    if folder.is_dir():
        return _exported(folder, device, storage)
    return _confirmed(str(model), device, storage)


def _exported(folder: Path, device: str, storage: str | None) -> JudgedModel:
    model = load(folder, device)
    internal = read_metrics(folder / METRICS_FILE)
    study = _study_of(model.config, storage)
    return JudgedModel(model, folder, True, internal, read_prints(folder / PRINTS_FILE), study)


def read_metrics(file: Path) -> SplitMetrics | None:
    """What a model folder says of its own test split; None: it does not.

    Raises:
        ExportedModelError: the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        return _internal(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(str(error))[:100]
        raise ExportedModelError(f"{file}: damaged ({reason}); export the model again") from None


def _internal(content: dict[str, dict[str, object]]) -> SplitMetrics | None:
    """The test split's metrics as the export wrote them; older versions wrote the AUC alone."""
    own = content.get("model", {})
    if isinstance(whole := own.get("test"), dict):
        return SplitMetrics.model_validate(whole)
    interval = own.get("test_ci")
    low, high = interval if isinstance(interval, list) else (None, None)
    return SplitMetrics.model_validate({"auc": own.get("test_auc"), "auc_ci_low": low, "auc_ci_high": high})


def _study_of(config: ModelConfig, storage: str | None) -> Study | None:
    """The model's study, where this storage has it; a study of that name on other data is another one."""
    try:
        study = read_study(storage or default_url(), config.study)
    except StorageError:
        if storage is not None:
            raise
        return None
    return study if study.user_attrs.get("dataset_fingerprint") == config.dataset_fingerprint else None


def _confirmed(name: str, device: str, storage: str | None) -> JudgedModel:
    from medfathom.confirmation.summary import best_model  # noqa: PLC0415  imports pandas

    study = read_study(storage or default_url(), name)
    chosen = best_model(choose_configuration(study, "best", 0.0), rule_of(study))
    model = load_unsealed(chosen.folder, device)
    data = find_prepared(home() / "cache", model.config.dataset_fingerprint)
    prints = None if data is None else prints_of(data)
    return JudgedModel(model, chosen.folder, False, chosen.test, prints, study)
