"""Where a confirmation lies: its study, its trials, its model folders, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medfathom.confirmation.openings import JobKey
from medfathom.definitions.config import StudyConfig
from medfathom.files import home
from medfathom.models.folder import WEIGHTS_FILE, config_file
from medfathom.study.read import sibling_study, stored_definition
from medfathom.text import stratum_words

if TYPE_CHECKING:
    from medfathom.confirmation.results import ConfirmationSummary

CONFIRMS = "confirms"
"""Attribute of a confirmation: the uid of the search study."""

MISTAKES = "mistakes.html"
"""The page of the most confident mistakes, in a confirmed model's folder; the dashboard does not have it."""

SUBGROUPS = "subgroups"
"""Attribute of a search study: what `confirm --by` found of subgroups of the test split."""

PICTURES = {
    "roc.png": "ROC curve of the test split; band: 95 % interval",
    "precision_recall.png": "precision and recall on the test split; band: 95 % interval",
    "confusion.png": "confusion matrix of the test split (two classes: at the threshold from validation; "
    "more: the class with the highest probability)",
    "calibration.png": "reliability on the test split, after calibration on validation",
    "gradcam.png": "Grad-CAM of confident right and wrong predictions on the test split",
    "mistakes.png": "the most confident mistakes on the test split, each beside its Grad-CAM if there is one",
    "curves.png": "learning curves",
}
"""What is drawn of a confirmed model, and what it shows."""

NO_MAP = (
    "no Grad-CAM: this network has no convolution layer with image positions (most transformers have none)"
)


def without_map(pictures: Sequence[str]) -> str:
    """Why there is no Grad-CAM among these pictures; empty where there is one, or no picture at all."""
    return NO_MAP if pictures and not any(name.endswith("gradcam.png") for name in pictures) else ""


def definition_of(study: Study) -> StudyConfig:
    """The definition, as the study's latest run had it. Raises StorageError where it is a newer version's."""
    return stored_definition(study)


def confirmation_name(study: str) -> str:
    """Name of the study that holds a study's confirmation; no definition can have it."""
    return f"{study} (confirmed)"


def find_confirmation(study: Study) -> Study | None:
    """The confirmation of exactly this study (not of one that was set aside); None: there is none."""
    other = sibling_study(study, confirmation_name(study.study_name))
    return other if other and other.user_attrs.get(CONFIRMS) == study.user_attrs.get("uid") else None


def job_key(trial: FrozenTrial) -> JobKey:
    """Which configuration and seed a confirmation's trial is."""
    return trial.user_attrs["search_trial"], trial.user_attrs["seed_index"]


def by_configuration(confirmation: Study) -> dict[int, list[FrozenTrial]]:
    """Search trial -> its confirmed models that are complete, by seed, each seed once.

    Of a seed that was trained again, because files were gone, the latest counts.
    """
    found: dict[int, dict[int, FrozenTrial]] = {}
    for trial in confirmation.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        number, seed = job_key(trial)
        found.setdefault(number, {})[seed] = trial
    return {n: [seeds[k] for k in sorted(seeds)] for n, seeds in found.items()}


def confirmed_folder(study: Study) -> Path:
    """Where the confirmed models of a search study lie, a folder for each."""
    return home() / "confirmed" / f"{study.study_name}-{study.user_attrs['uid']}"


def predictions_file(folder: Path, split: str) -> Path:
    """The predictions of a confirmed model, a row for each image or case: `split` is val or test."""
    return folder / f"{split}.parquet"


def image_predictions_file(folder: Path, split: str) -> Path:
    """The predictions of the images of cases, where cases are judged."""
    return folder / f"{split}_images.parquet"


def is_kept(folder: Path, names: Sequence[str] = ()) -> bool:
    """Whether a confirmed model's folder still has all files that it is judged by and exported from.

    `names` are those of its data sets, where there are several.
    """
    own = [folder / name for name in names] or [folder]
    files = (folder / WEIGHTS_FILE, config_file(folder), *map(config_file, own))
    return all(file.is_file() for file in (*files, *(predictions_file(each, "test") for each in own)))


def pictures_of_best(summary: ConfirmationSummary) -> list[tuple[str, Path, str]]:
    """Pictures of the best configuration by validation, of its first seed: (of what, file, what it shows)."""
    if not summary.best_of_strata:
        return []
    best = summary.best_of_strata[0]
    first = best.models[0]
    seeds = len(best.models)
    about = (
        f"{summary.study}, {stratum_words(best.stratum)}{f', first of {seeds} seeds' if seeds > 1 else ''}"
    )
    files = [(first.folder / name, _shown(name)) for name in first.pictures]
    if why := without_map(first.pictures):
        files[-1] = (files[-1][0], f"{files[-1][1]}; {why}")
    return [(about, file, text) for file, text in files if file.is_file()]


def _shown(picture: str) -> str:
    """What a picture shows; of a model of several data sets it lies in the folder of one of them."""
    dataset, _, name = picture.rpartition("/")
    return f"{dataset}: {PICTURES[name]}" if dataset else PICTURES[name]
