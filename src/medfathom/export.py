"""A confirmed model -> a model folder that works without the study and in timm: weights, card, ONNX."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from medfathom.confirmation.card import model_card
from medfathom.confirmation.choice_of_model import choose_configuration
from medfathom.confirmation.json_forms import ModelJson, StratumJson
from medfathom.confirmation.results import ConfirmedModel, StratumResult
from medfathom.errors import InputError, StorageError
from medfathom.files import home, write_atomically
from medfathom.models.folder import (
    CARD_FILE,
    METRICS_FILE,
    ONNX_FILE,
    PRINTS_FILE,
    WEIGHTS_FILE,
    read_config,
    write_config,
    write_manifest,
)
from medfathom.study.choice import rule_of
from medfathom.study.connection import default_url
from medfathom.study.read import read_study

if TYPE_CHECKING:
    from optuna.study import Study

WITHIN = 0.005
"""AUC that the smallest model may lose against the best."""


class ExportedJson(TypedDict):
    """What was exported.

    Attributes:
        folder: the model folder.
        onnx_difference: largest difference of a probability between ONNX Runtime and torch; null: no ONNX.
        whole_in_timm: whether timm gives the logits; otherwise it gives the features before the head.
        configuration: which configuration, over all its seeds.
        model: the one of its models that was taken.
    """

    folder: str
    onnx_difference: float | None
    whole_in_timm: bool
    configuration: StratumJson
    model: ModelJson


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: the model folder.
        configuration: which configuration, over all its seeds.
        model: the one of its models that was taken.
        onnx_difference: largest difference of a probability between ONNX Runtime and torch; None: no ONNX.
        whole_in_timm: whether timm gives the logits; otherwise it gives the features before the head.
    """

    folder: Path
    configuration: StratumResult
    model: ConfirmedModel
    onnx_difference: float | None
    whole_in_timm: bool

    def to_dict(self) -> ExportedJson:
        """JSON form."""
        return {
            "folder": str(self.folder),
            "onnx_difference": self.onnx_difference,
            "whole_in_timm": self.whole_in_timm,
            "configuration": self.configuration.to_dict(),
            "model": self.model.to_dict(),
        }


def export_model(
    name: str,
    out: Path,
    *,
    trial: str = "best",
    within: float = WITHIN,
    storage: str | None = None,
    onnx: bool = True,
    prints: bool = True,
) -> Exported:
    """Write a model folder.

    Of several seeds the best on validation is taken, by the study's rule; its weights are those `confirm`
    judged.

    Args:
        name: of a confirmed study.
        out: the folder; it must be absent or empty.
        trial: "best" (on validation, by the study's rule on means over seeds), the number of a search
            trial, or "smallest-within": the fewest parameters among those whose validation AUC is at
            most `within` below the highest.
        within: AUC.
        storage: an Optuna storage URL.
        onnx: also write it for other runtimes.
        prints: also write fingerprints of the training images, by which `evaluate` finds them among others
            (see `data.prints`), where the prepared data are still on this machine.

    Raises:
        InputError: nothing to export, or the folder is there.
        RunError: ONNX computes something else than torch.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: already exists; give a new folder")
    study = read_study(storage or default_url(), name)
    configuration = choose_configuration(study, trial, within)
    from medfathom.confirmation.summary import best_model  # noqa: PLC0415  imports pandas

    model = best_model(configuration, rule_of(study))
    weights = model.folder / WEIGHTS_FILE
    if not weights.is_file():
        raise StorageError(f"{weights} is missing; the model cannot be exported without its weights")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        if prints:
            _write_prints(beside, model)
        whole, difference = _fill(beside, study, configuration, model, onnx=onnx)
        if out.exists():
            out.rmdir()
        beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, configuration, model, difference, whole)


def _write_prints(folder: Path, model: ConfirmedModel) -> None:
    """Fingerprints of the images it was trained on; none where they are not on this machine any more."""
    from medfathom.data.prints import find_prepared, prints_of, write_prints  # noqa: PLC0415  imports SciPy

    data = find_prepared(home() / "cache", read_config(model.folder).dataset_fingerprint)
    if data is not None:
        write_prints(folder / PRINTS_FILE, prints_of(data))


def _fill(
    folder: Path, study: Study, configuration: StratumResult, model: ConfirmedModel, *, onnx: bool
) -> tuple[bool, float | None]:
    """Write all files.

    Returns:
        Whether timm gives the logits; the largest difference of a probability by ONNX (None: not written).
    """
    from medfathom.exported.model import load_unsealed  # noqa: PLC0415  imports torch
    from medfathom.exported.timm_layout import write_timm  # noqa: PLC0415

    kept = load_unsealed(model.folder)
    config = write_timm(folder, kept.config, kept.module, kept.module.network)
    write_config(folder, config)
    difference = None
    if onnx:
        from medfathom.exported.onnx import write_onnx  # noqa: PLC0415  imports onnx and torch's exporter

        difference = write_onnx(folder / ONNX_FILE, folder)
    content = {
        "study": study.study_name,
        # A model folder travels: without where its models lie on this machine.
        "configuration": configuration.to_dict(with_folders=False),
        "model": model.to_dict(with_folder=False)
        | {"test": model.test.model_dump(mode="json", exclude_none=True)},
        "onnx_difference": difference,
    }
    write_atomically(folder / METRICS_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / CARD_FILE, model_card(config, study, configuration, model, difference))
    write_manifest(folder)
    return config.classifier is not None, difference
