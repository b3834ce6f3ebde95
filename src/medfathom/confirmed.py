"""What `confirm` left in the storage, read: models, their predictions, and what they are worth on test.

A confirmation is an Optuna study of its own beside the search, a trial for each configuration and seed, so
that it resumes, and is watched in the dashboard, like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from medfathom.definitions import StudyConfig
from medfathom.errors import StorageError
from medfathom.ledger import WITHDRAWN, completed, count_states
from medfathom.model_folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.sampling import trials_of
from medfathom.spaces import label
from medfathom.storage import beside, root
from medfathom.training.auc import Z95, delong_interval
from medfathom.training.metrics import positives

OPENINGS = "test_openings"
"""Attribute of a study: every opening of its test split, in order."""

CONFIRMS = "confirms"
"""Attribute of a confirmation: the uid of the search study."""


def confirmation_name(study: str) -> str:
    """Name of the study that holds a study's confirmation; no definition can have it."""
    return f"{study} (confirmed)"


def confirmed_folder(study: Study) -> Path:
    """Where the confirmed models of a search study lie, a folder for each."""
    return root() / "confirmed" / f"{study.study_name}-{study.user_attrs['uid']}"


def predictions_file(folder: Path, split: str) -> Path:
    """The per-image predictions of a confirmed model: `split` is val or test."""
    return folder / f"{split}.parquet"


def is_kept(folder: Path) -> bool:
    """Whether all is there of a confirmed model that it is judged by and exported from."""
    files = (predictions_file(folder, "test"), folder / WEIGHTS_FILE, folder / CONFIG_FILE)
    return all(file.is_file() for file in files)


def find_confirmation(study: Study) -> Study | None:
    """The confirmation of exactly this study (not of one that was set aside); None: there is none."""
    other = beside(study, confirmation_name(study.study_name))
    return other if other and other.user_attrs.get(CONFIRMS) == study.user_attrs.get("uid") else None


def definition_of(study: Study) -> StudyConfig:
    """The definition, as the study's latest run had it."""
    return StudyConfig.model_validate(study.user_attrs["definition"])


def unfinished_search(study: Study) -> str | None:
    """That a search is not at its end, in words; None: all trials that its definition allows have ended."""
    ended = count_states(study.get_trials(deepcopy=False)).finished
    budget = trials_of(definition_of(study))
    if ended >= budget:
        return None
    return (
        f"the search has ended {ended} of {budget} trials; "
        "going on with it may choose other models, and to confirm those opens the test split again"
    )


@dataclass(frozen=True)
class Choices:
    """What is to be confirmed.

    Attributes:
        trials: the best complete trial of every stratum, best first.
        missing: strata that have none, with the reason.
    """

    trials: list[FrozenTrial]
    missing: list[dict[str, str]]


def choose(study: Study) -> Choices:
    """The best complete trial of each stratum by validation AUC.

    Raises:
        StorageError: no trial is complete.
    """
    trials = study.get_trials(deepcopy=False)
    done = completed(trials)
    name = study.study_name
    if not done:
        raise StorageError(
            f"study {name!r}: no trial is complete yet; `medfathom run {name}` goes on with it"
        )
    best: dict[str, FrozenTrial] = {}
    for trial in done:
        best.setdefault(str(trial.user_attrs.get("stratum", "")), trial)
    names = [label(s) for s in definition_of(study).space.strata()]
    missing = [{"stratum": n, "reason": _why_missing(n, trials)} for n in names if n not in best]
    return Choices(list(best.values()), missing)


def _why_missing(stratum: str, trials: list[FrozenTrial]) -> str:
    mine = [t for t in trials if t.user_attrs.get("stratum") == stratum]
    if not mine:
        return "no trial was drawn"
    count = {
        s: sum(t.state == s for t in mine) for s in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    }
    words = {TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed", TrialState.RUNNING: "running"}
    return "no complete trial (" + ", ".join(f"{n} {words[s]}" for s, n in count.items() if n) + ")"


@dataclass(frozen=True)
class Predicted:
    """Per-image predictions of one model on one split.

    Attributes:
        positive: (n, C), which images are of each column's class.
        probabilities: (n, C), calibrated.
        groups: (n,) or None.
        names: (n,).
    """

    class_names: list[str]
    positive: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    groups: NDArray[Any] | None
    names: list[str]


def read_predictions(path: Path) -> Predicted:
    """What `confirm` wrote. Raises StorageError where the file is gone."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise StorageError(
            f"{path}: predictions are gone; confirm the study again (with --trial, if it is not the best of "
            "its stratum any more)"
        ) from None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: predictions cannot be read ({error}); delete it, then confirm the study again"
        ) from None
    prefix = "probability:"
    columns = [c for c in table.columns if c.startswith(prefix)]
    values = table[columns].to_numpy(np.float64)
    if "label" in table:
        task = "binary" if len(columns) == 1 else "multiclass"
        positive = positives(task, table["label"].to_numpy(), len(columns))  # type: ignore[arg-type]
    else:
        positive = table[[c for c in table.columns if c.startswith("label:")]].to_numpy().astype(bool)
    groups = None if table["group"].isna().all() else table["group"].to_numpy()
    names = [str(name) for name in table["name"]]
    return Predicted([c.removeprefix(prefix) for c in columns], positive, values, groups, names)


def by_configuration(confirmation: Study) -> dict[int, list[FrozenTrial]]:
    """Search trial -> its confirmed models that are complete, by seed, each seed once.

    Of a seed that was trained again, because files were gone, the latest counts.
    """
    found: dict[int, dict[int, FrozenTrial]] = {}
    for trial in confirmation.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            number, seed = trial.user_attrs["search_trial"], trial.user_attrs["seed_index"]
            found.setdefault(number, {})[seed] = trial
    return {n: [seeds[k] for k in sorted(seeds)] for n, seeds in found.items()}


def summarize(study: Study, confirmation: Study | None) -> dict[str, Any]:
    """Everything known of a confirmation, JSON-able.

    Returns:
        Keys `study modality unfinished n_test openings strata missing failures`; `unfinished` is what
        `unfinished_search` says. Of each of `strata`, best validation first: the configuration, `search_auc`
        (validation, the best of the search), and over its seeds `val_auc`, `test_auc` (means), `seed_sd`
        (spread between seeds, None for one), `sampling_ci` (95 %, the networks held fixed and the test images
        drawn anew), `ci` (95 %, both together), `optimism` = search_auc - test_auc, the other metrics' means,
        and `models`.
    """
    choices = choose(study)
    chosen = {t.number for t in choices.trials}
    models = by_configuration(confirmation) if confirmation else {}
    folder = confirmed_folder(study)
    rows = [_row(study, n, trials, folder, chosen=n in chosen) for n, trials in models.items()]
    waiting = [t for t in choices.trials if t.number not in models]
    missing = [
        *choices.missing,
        *({"stratum": t.user_attrs["stratum"], "reason": "not confirmed"} for t in waiting),
    ]
    openings = study.user_attrs.get(OPENINGS, [])
    return {
        "study": study.study_name,
        "modality": study.user_attrs["modality"],
        "unfinished": unfinished_search(study),
        "n_test": openings[-1]["n_images"] if openings else None,
        "openings": openings,
        "strata": sorted(rows, key=lambda r: (-r["val_auc"], r["search_trial"])),
        "missing": missing,
        "failures": _failures(confirmation, models),
    }


def _failures(confirmation: Study | None, models: dict[int, list[FrozenTrial]]) -> list[dict[str, Any]]:
    done = {(n, t.user_attrs["seed_index"]) for n, trials in models.items() for t in trials}
    trials = confirmation.get_trials(deepcopy=False) if confirmation else []
    return [
        {
            "stratum": t.user_attrs["stratum"],
            "seed": t.user_attrs["seed_index"],
            "reason": t.user_attrs.get("stop_reason", "?"),
        }
        for t in trials
        if t.state == TrialState.FAIL
        and WITHDRAWN not in t.user_attrs
        and (t.user_attrs["search_trial"], t.user_attrs["seed_index"]) not in done
    ]


FACTS = (
    "architecture",
    "family",
    "init",
    "unfreeze_depth",
    "n_params",
    "n_trainable_params",
    "depth",
    "macs",
)
MEANS = (
    "sensitivity",
    "specificity",
    "precision",
    "accuracy",
    "average_precision",
    "brier_loss",
    "calibration_error",
)


def _row(
    study: Study, number: int, models: list[FrozenTrial], folder: Path, *, chosen: bool
) -> dict[str, Any]:
    search = study.get_trials(deepcopy=False)[number]
    attributes = models[0].user_attrs
    test = np.array([t.user_attrs["test_auc"] for t in models])
    val = np.array([t.value for t in models], dtype=np.float64)
    low, high = sampling_interval([folder / t.user_attrs["folder"] for t in models])
    seed_sd = float(test.std(ddof=1)) if len(test) > 1 else None
    search_auc = float(search.value or 0.0)
    means = {name: _mean([t.user_attrs.get(f"test_{name}") for t in models]) for name in MEANS}
    return {
        "stratum": attributes["stratum"],
        "search_trial": number,
        "chosen": chosen,
        **{name: attributes.get(name) for name in FACTS},
        "params": dict(search.params),
        "search_auc": search_auc,
        "val_auc": float(val.mean()),
        "test_auc": float(test.mean()),
        "seed_sd": seed_sd,
        "sampling_ci": [low, high],
        "ci": both(float(test.mean()), low, high, seed_sd, len(test)),
        "optimism": search_auc - float(test.mean()),
        **means,
        "models": [
            {
                "trial": t.number,
                "seed": t.user_attrs["seed_index"],
                "val_auc": t.value,
                "test_auc": t.user_attrs["test_auc"],
                "test_ci": [t.user_attrs.get("test_auc_ci_low"), t.user_attrs.get("test_auc_ci_high")],
                "folder": str(folder / t.user_attrs["folder"]),
            }
            for t in models
        ],
    }


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def both(mean: float, low: float, high: float, seed_sd: float | None, n_seeds: int) -> list[float]:
    """95 % interval of the mean AUC over seeds, test images and seeds both drawn anew.

    Squared half-widths add, each with its own quantile: Student's for a standard deviation known from few
    seeds only (Banerjee 1960: the coverage is at least nominal). One seed says nothing of others: the
    interval is then that over test images alone.
    """
    seeds = 0.0 if seed_sd is None else float(stats.t.ppf(0.975, n_seeds - 1)) * seed_sd / np.sqrt(n_seeds)
    down = float(np.hypot(mean - low, seeds))
    up = float(np.hypot(high - mean, seeds))
    return [max(0.0, mean - down), min(1.0, mean + up)]


def sampling_interval(folders: list[Path]) -> tuple[float, float]:
    """DeLong's 95 % interval of the mean test AUC of these models, images (or groups) drawn anew.

    The models share the images: influences are averaged over models before they are squared.
    """
    parts = [read_predictions(predictions_file(folder, "test")) for folder in folders]
    positive = np.concatenate([p.positive for p in parts], axis=1)
    values = np.concatenate([p.probabilities for p in parts], axis=1)
    found = delong_interval(positive, values, parts[0].groups)
    return found.mean_low, found.mean_high


def analysis_records(study: Study, confirmation: Study) -> list[dict[str, Any]]:
    """Confirmed models as results: `auc` is the test split's, one row for each seed.

    Only configurations that are the best of their stratum. An init or unfreeze depth that was tuned, not
    compared, is said to be so: architectures are then compared each at its own best. Where several strata
    share architecture, init and unfreeze depth, the best of them by validation stands for them.
    """
    definition = definition_of(study)
    dimensions = definition.space.dimensions
    tuned = {
        name: "tuned"
        for name in ("init", "unfreeze_depth")
        if name in dimensions and dimensions[name].role == "nuisance"
    }
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in summarize(study, confirmation)["strata"]:
        if row["chosen"]:
            cell = {name: row[name] for name in ("architecture", "init", "unfreeze_depth")} | tuned
            best.setdefault(tuple(cell.values()), row)
    trials = confirmation.get_trials(deepcopy=False)
    records = []
    for row in best.values():
        for model in row["models"]:
            attributes = trials[model["trial"]].user_attrs
            low, high = model["test_ci"]
            records.append(
                {
                    **{k: v for k, v in attributes.items() if not k.startswith("test_")},
                    "dataset": getattr(definition.dataset, "name", None) or study.study_name,
                    "modality": study.user_attrs["modality"],
                    "study": study.study_name,
                    "state": "COMPLETE",
                    "auc": attributes["test_auc"],
                    "val_auc": model["val_auc"],
                    "seed": model["seed"],
                    **tuned,
                    "auc_se": (high - low) / (2 * Z95) if high is not None and high > low else None,
                }
            )
    return records


PICTURES = {
    "roc.png": "ROC curve of the test split; band: 95 % over test images",
    "precision_recall.png": "precision and recall on the test split; band: 95 % over test images",
    "confusion.png": "confusion matrix of the test split, by the thresholds from validation",
    "calibration.png": "reliability on the test split, after temperature scaling on validation",
    "gradcam.png": "Grad-CAM of confident right and wrong test cases",
    "mistakes.png": "the most confident mistakes on the test split",
    "curves.png": "learning curves",
}
"""What is drawn of a confirmed model, and what is to be seen."""


def pictures_of_best(
    study: Study, confirmation: Study, summary: dict[str, Any]
) -> list[tuple[str, Path, str]]:
    """The pictures of the best configuration by validation: (study, file, what is to be seen)."""
    chosen = [row for row in summary["strata"] if row["chosen"]]
    if not chosen:
        return []
    first = min(chosen[0]["models"], key=lambda m: m["seed"])
    drawn = confirmation.get_trials(deepcopy=False)[first["trial"]].user_attrs.get("pictures", [])
    files = [(confirmed_folder(study) / Path(first["folder"]).name / name, PICTURES[name]) for name in drawn]
    about = f"{study.study_name}, {chosen[0]['stratum']}"
    return [(about, file, text) for file, text in files if file.is_file()]
