"""What a confirmation is worth on the test split: one row for each stratum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from medfathom.confirmation.choice import choose, unfinished_search
from medfathom.confirmation.find import (
    OPENINGS,
    by_configuration,
    confirmed_folder,
    definition_of,
    predictions_file,
)
from medfathom.confirmation.predictions import read_predictions
from medfathom.metrics.auc import Z95, delong_interval
from medfathom.study.summary import WITHDRAWN


def summarize_confirmation(study: Study, confirmation: Study | None) -> dict[str, Any]:
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
        "ci": interval_over_images_and_seeds(float(test.mean()), low, high, seed_sd, len(test)),
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


def interval_over_images_and_seeds(
    mean: float, low: float, high: float, seed_sd: float | None, n_seeds: int
) -> list[float]:
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
    for row in summarize_confirmation(study, confirmation)["strata"]:
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
