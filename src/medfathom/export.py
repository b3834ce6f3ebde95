"""A confirmed model -> a model folder that works without the study: weights, configuration, card, ONNX."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfathom.confirmation.card import model_card
from medfathom.confirmation.choice import complete_trial
from medfathom.confirmation.find import confirmed_folder, find_confirmation
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.errors import InputError, StorageError
from medfathom.files import write_atomically
from medfathom.models.folder import (
    CARD_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    read_config,
    write_config,
    write_manifest,
)
from medfathom.study.connection import default_url
from medfathom.study.read import read_study
from medfathom.text import command

if TYPE_CHECKING:
    from optuna.study import Study

WITHIN = 0.005
"""AUC that the smallest model may lose against the best."""

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Exported:
    """What was exported: the configuration, its model, how far ONNX is from torch (None: no ONNX)."""

    folder: Path
    row: dict[str, Any]
    model: dict[str, Any]
    onnx_difference: float | None


def export_model(
    name: str,
    out: Path,
    *,
    trial: str = "best",
    within: float = WITHIN,
    storage: str | None = None,
    onnx: bool = True,
) -> Exported:
    """Write a model folder.

    Of several seeds the one with the best validation AUC is taken; its weights are those `confirm` judged.

    Args:
        name: of a confirmed study.
        out: the folder, which must not be there yet.
        trial: "best" (by validation AUC, mean over seeds), the number of a search trial, or
            "smallest-within": the fewest parameters among those whose validation AUC is at most `within`
            below the best.
        within: AUC.
        storage: an Optuna storage URL.
        onnx: also write it for other runtimes.

    Raises:
        InputError: nothing to export, or the folder is there.
        RunError: ONNX computes something else than torch.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there already; give a folder that is not")
    study = read_study(storage or default_url(), name)
    row = chosen_row(study, trial, within)
    confirmation = find_confirmation(study)
    model = max(row["models"], key=lambda m: (m["val_auc"], -m["seed"]))
    kept = confirmed_folder(study) / Path(model["folder"]).name
    if not (kept / WEIGHTS_FILE).is_file():
        raise StorageError(f"{kept / WEIGHTS_FILE}: gone; the model cannot be exported without its weights")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        attributes = (
            confirmation.get_trials(deepcopy=False)[model["trial"]].user_attrs if confirmation else {}
        )
        difference = _fill(beside, kept, study, row, model, attributes, onnx=onnx)
        if out.exists():
            out.rmdir()
        beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, row, model, difference)


def chosen_row(study: Study, trial: str, within: float) -> dict[str, Any]:
    """The confirmed configuration that `--trial` means."""
    name = study.study_name
    number = int(trial) if trial.isdigit() else None
    if number is not None:
        complete_trial(study, number)
    elif trial not in ("best", "smallest-within"):
        raise InputError(f"--trial {trial}: expected best, smallest-within, or the number of a trial")
    strata = summarize_confirmation(study, find_confirmation(study))["strata"]
    if not strata:
        raise StorageError(f"study {name!r}: no confirmed model yet; `{command('confirm', name)}` makes them")
    if number is not None:
        for row in strata:
            if row["search_trial"] == number:
                return dict(row)
        raise StorageError(
            f"study {name!r}: trial {number} has no trained weights, it was not confirmed; "
            f"`{command('confirm', name, '--trial', number)}` trains it"
        )
    best = strata[0]
    if trial == "best":
        return dict(best)
    near = [row for row in strata if row["val_auc"] >= best["val_auc"] - within]
    return dict(min(near, key=lambda r: (r["n_params"], -r["val_auc"])))


def _fill(
    folder: Path,
    kept: Path,
    study: Study,
    row: dict[str, Any],
    model: dict[str, Any],
    attributes: dict[str, Any],
    *,
    onnx: bool,
) -> float | None:
    config = read_config(kept)
    shutil.copyfile(kept / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    write_config(folder, config)
    difference = None
    if onnx:
        from medfathom.exported.onnx import write_onnx  # noqa: PLC0415  imports onnx and torch's exporter

        difference = write_onnx(folder / ONNX_FILE, folder)
    content = {
        "study": study.study_name,
        "configuration": {**row, "models": [_without_place(m) for m in row["models"]]},
        "model": _without_place(model),
        "onnx_difference": difference,
    }
    write_atomically(folder / METRICS_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / CARD_FILE, model_card(config, study, row, model, attributes, difference))
    write_manifest(folder)
    return difference


def _without_place(model: dict[str, Any]) -> dict[str, Any]:
    """Without where it lies on this machine: a model folder travels."""
    return {key: value for key, value in model.items() if key != "folder"}
