"""A confirmed model -> a model folder that works without the study and in timm: weights, card, ONNX."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from medfathom.confirmation.card import model_card
from medfathom.confirmation.choice_of_model import choose_configuration
from medfathom.confirmation.find import find_confirmation
from medfathom.confirmation.joint_card import joint_card
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
from medfathom.text import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study

    from medfathom.confirmation.ensemble import Ensemble
    from medfathom.confirmation.views import TestViews
    from medfathom.models.folder import ModelConfig

WITHIN = 0.005
"""AUC that the smallest model may lose against the best."""


class ExportedJson(TypedDict):
    """What was exported.

    Attributes:
        folder: the model folder.
        onnx_difference: largest difference of a probability between ONNX Runtime and torch; null: no ONNX.
        views: its test-time views; None: it has none.
        whole_in_timm: whether timm gives the logits; otherwise it gives the features before the head.
        configuration: which configuration, over all its seeds.
        model: the one of its models that was taken; of an ensemble its own metrics, and the first member's
            numbers.
        ensemble: who its members are and what it gained; null: one model was exported.
    """

    folder: str
    onnx_difference: float | None
    whole_in_timm: bool
    configuration: StratumJson
    model: ModelJson
    ensemble: Annotated[dict[str, object], Ensemble] | None
    views: Annotated[dict[str, object], TestViews] | None


WITH_VIEWS = ("views", "calibration", "temperature", "curves", "thresholds", "image_temperature")
"""What the configuration of a model with test-time views has of its own."""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: the model folder.
        configuration: which configuration, over all its seeds.
        model: the one of its models that was taken; of an ensemble its own metrics, and the first member's
            numbers.
        ensemble: who its members are and what it gained; None: one model was exported.
        onnx_difference: largest difference of a probability between ONNX Runtime and torch; None: no ONNX.
        views: its test-time views; None: it has none.
        whole_in_timm: whether timm gives the logits; otherwise it gives the features before the head.
    """

    folder: Path
    configuration: StratumResult
    model: ConfirmedModel
    onnx_difference: float | None
    whole_in_timm: bool
    ensemble: Ensemble | None = None
    views: TestViews | None = None

    def to_dict(self) -> ExportedJson:
        """JSON form."""
        return {
            "folder": str(self.folder),
            "onnx_difference": self.onnx_difference,
            "whole_in_timm": self.whole_in_timm,
            "configuration": self.configuration.to_dict(),
            "model": self.model.to_dict(),
            "ensemble": self.ensemble.model_dump(mode="json") if self.ensemble else None,
            "views": self.views.model_dump(mode="json") if self.views else None,
        }


def export_model(
    name: str,
    out: Path,
    *,
    trial: str = "best",
    ensemble: bool = False,
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
        ensemble: write the ensemble that `confirm` found and kept, instead of one model.
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
    chosen = _ensemble(study) if ensemble else _single(study, trial, within)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        if chosen.configuration.datasets:
            whole, difference = False, _fill_heads(beside, study, chosen, onnx=onnx, prints=prints)
        else:
            if prints:
                _write_prints(beside, chosen.model)
            whole, difference = _fill(beside, study, chosen, onnx=onnx)
        if out.exists():
            out.rmdir()
        beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, chosen.configuration, chosen.model, difference, whole, chosen.ensemble, chosen.views)


@dataclass(frozen=True)
class _Chosen:
    """What is exported; `weights` are the folders of its networks, `views` its test-time views."""

    configuration: StratumResult
    model: ConfirmedModel
    weights: Sequence[Path]
    ensemble: Ensemble | None = None
    views: TestViews | None = None

    def __post_init__(self) -> None:
        for folder in self.weights:
            if not (weights := folder / WEIGHTS_FILE).is_file():
                raise StorageError(f"{weights} is missing; the model cannot be exported without its weights")


def _single(study: Study, trial: str, within: float) -> _Chosen:
    configuration = choose_configuration(study, trial, within)
    from medfathom.confirmation.summary import best_model  # noqa: PLC0415  imports pandas

    model = best_model(configuration, rule_of(study))
    return _with_views(study, _Chosen(configuration, model, [model.folder]))


def _with_views(study: Study, chosen: _Chosen) -> _Chosen:
    """With the test-time views that `confirm --views` kept for this model, and the metrics with them."""
    from medfathom.confirmation.views import kept_views, views_folder  # noqa: PLC0415  imports pandas
    from medfathom.evaluation.own_test import own_metrics  # noqa: PLC0415  imports image readers

    found = kept_views(study, chosen.model.trial)
    if found is None:
        return chosen
    folder = views_folder(study)
    again = command("confirm", study.study_name, "--views")
    _check_kept([read_config(folder).trial], [found.trial], folder, again)
    model = replace(
        chosen.model,
        folder=folder,
        val_auc=found.val_auc,
        val_log_loss=None,  # what is known is of the network without views
        test_auc=found.test_auc,
        validation=own_metrics(folder, "val"),
        test=own_metrics(folder, "test"),
        calibrations=(),
    )
    return replace(chosen, model=model, views=found)


def _check_kept(kept: Sequence[int], told: Sequence[int], folder: Path, again: str) -> None:
    """Raise StorageError where a folder is of other models than the study tells: `confirm` died between
    writing the one and the other. Calibration and thresholds would be those of other weights."""
    if list(kept) != list(told):
        raise StorageError(
            f"{folder}: it is of models {', '.join(map(str, kept))}, but the study tells of "
            f"{', '.join(map(str, told))} (`confirm` was interrupted); `{again}`"
        )


def _ensemble(study: Study) -> _Chosen:
    """The ensemble with its own metrics. Raises StorageError where there is none, or it was not kept."""
    from medfathom.confirmation.ensemble import ensemble_folder, read_ensemble  # noqa: PLC0415  imports pandas
    from medfathom.confirmation.summary import summarize_confirmation  # noqa: PLC0415  imports pandas
    from medfathom.evaluation.own_test import own_metrics  # noqa: PLC0415  imports image readers

    name, found = study.study_name, read_ensemble(study)
    again = command("confirm", name, "--ensemble", 3)
    if found is None:
        raise StorageError(f"study {name!r} has no ensemble yet; `{again}` chooses one")
    if not found.kept:
        why = "gained no validation AUC beyond chance" if len(found.members) > 1 else "has one model only"
        raise StorageError(
            f"study {name!r}: its ensemble {why}; `{again} --keep-ensemble` keeps one of several"
        )
    strata = summarize_confirmation(study, find_confirmation(study)).strata
    models = {model.trial: (result, model) for result in strata for model in result.models}
    if gone := [trial for trial in found.members if trial not in models]:
        raise StorageError(
            f"study {name!r}: model {gone[0]} of its ensemble was trained again since; `{again}`"
        )
    configuration, first = models[found.members[0]]
    folder = ensemble_folder(study)
    _check_kept([each.trial for each in read_config(folder).members], found.members, folder, again)
    own = replace(
        first,
        folder=folder,
        val_auc=found.val_auc,
        val_log_loss=None,  # `found` has that of calibrated probabilities
        test_auc=found.test_auc,
        validation=own_metrics(folder, "val"),
        test=own_metrics(folder, "test"),
        calibrations=(),
        pictures=(),
    )
    return _Chosen(configuration, own, [models[trial][1].folder for trial in found.members], found)


def _write_prints(folder: Path, model: ConfirmedModel, also: Sequence[str] = ()) -> None:
    """Fingerprints of the images it was trained on; none where they are not on this machine any more.

    `also` are other data sets that the model was trained on: their images count, their patients do not.
    """
    from medfathom.data.prints import find_prepared, prints_of, write_prints  # noqa: PLC0415  imports SciPy

    places = [model.folder, *(model.folder.parent / name for name in also)]
    found = [find_prepared(home() / "cache", read_config(place).dataset_fingerprint) for place in places]
    known = [prints_of(data) for data in found if data is not None]
    if len(known) == len(places):
        write_prints(folder / PRINTS_FILE, known[0].with_images_of(known[1:]))


def _fill_heads(folder: Path, study: Study, chosen: _Chosen, *, onnx: bool, prints: bool) -> float | None:
    """Write a model of several data sets: the weights, and a folder for each head.

    Returns:
        The largest difference of a probability by ONNX of all heads; None: not written.
    """
    model = chosen.model
    shutil.copyfile(model.folder / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    config = read_config(model.folder)
    write_config(folder, config)
    differences = []
    for name, result in chosen.configuration.datasets.items():
        (own := folder / name).mkdir()
        head = next(each for each in result.models if each.trial == model.trial)
        head_config = read_config(head.folder)
        write_config(own, head_config)
        if prints:
            _write_prints(own, head, [each for each in config.heads if each != name])
        difference = _onnx(own) if onnx else None
        differences.append(difference)
        _write_metrics(own, study, result, head, difference)
        write_atomically(own / CARD_FILE, model_card(head_config, study, result, head, difference))
        write_manifest(own)
    known = [difference for difference in differences if difference is not None]
    _write_metrics(folder, study, chosen.configuration, model, max(known, default=None))
    write_atomically(folder / CARD_FILE, joint_card(config, study, chosen.configuration, model))
    write_manifest(folder)
    return max(known, default=None)


def _onnx(folder: Path) -> float:
    from medfathom.exported.onnx import write_onnx  # noqa: PLC0415  imports onnx and torch's exporter

    return write_onnx(folder / ONNX_FILE, folder)


def _write_metrics(
    folder: Path,
    study: Study,
    configuration: StratumResult,
    model: ConfirmedModel,
    difference: float | None,
) -> None:
    content = {
        "study": study.study_name,
        # A model folder travels: without where its models lie on this machine.
        "configuration": configuration.to_dict(with_folders=False),
        "model": model.to_dict(with_folder=False)
        | {"test": model.test.model_dump(mode="json", exclude_none=True)},
        "onnx_difference": difference,
    }
    write_atomically(folder / METRICS_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _fill(folder: Path, study: Study, chosen: _Chosen, *, onnx: bool) -> tuple[bool, float | None]:
    """Write all files.

    Returns:
        Whether timm gives the logits; the largest difference of a probability by ONNX (None: not written).
    """
    configuration, model = chosen.configuration, chosen.model
    config = _write_networks(folder, chosen)
    write_config(folder, config)
    difference = _onnx(folder) if onnx else None
    _write_metrics(folder, study, configuration, model, difference)
    views = _views_lines(chosen.views) if chosen.views is not None else ()
    card = model_card(config, study, configuration, model, difference, chosen.ensemble, views)
    write_atomically(folder / CARD_FILE, card)
    write_manifest(folder)
    return config.classifier is not None, difference


def _views_lines(found: TestViews) -> list[str]:
    from medfathom.confirmation.views import views_lines  # noqa: PLC0415  imports pandas

    return views_lines(found)


def _write_networks(folder: Path, chosen: _Chosen) -> ModelConfig:
    """Write weights: of one network under timm's names. Returns the configuration to be written."""
    from medfathom.exported.model import load_unsealed  # noqa: PLC0415  imports torch
    from medfathom.exported.timm_layout import write_timm  # noqa: PLC0415
    from medfathom.models.tensor_file import save_tensors  # noqa: PLC0415  imports torch

    kept = [load_unsealed(place) for place in chosen.weights]
    if chosen.ensemble is None:
        config = write_timm(folder, kept[0].config, kept[0].module, kept[0].module.network)
        if chosen.views is None:
            return config
        own = read_config(chosen.model.folder)
        return config.model_copy(update={name: getattr(own, name) for name in WITH_VIEWS})
    states = [model.module.network.state_dict() for model in kept]
    tensors = {
        f"{k}.network.{name}": tensor.contiguous().clone()
        for k, state in enumerate(states)
        for name, tensor in state.items()
    }
    save_tensors(folder / WEIGHTS_FILE, tensors)
    return read_config(chosen.model.folder)
