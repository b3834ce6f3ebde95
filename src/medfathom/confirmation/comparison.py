"""Confirmed models of a study compared image by image, for `analysis.json` and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from optuna.study import Study

from medfathom.analysis.as_json import plain
from medfathom.confirmation.find import confirmed_folder, predictions_file
from medfathom.confirmation.paired import compare_models
from medfathom.confirmation.predictions import Predicted, read_predictions
from medfathom.confirmation.summary import summarize_confirmation
from medfathom.errors import ResultsError

MOST_MODELS = 12
"""Compared with one another, the best by validation: pairs, and so Holm's factor, grow with the square."""


def compare_confirmed(study: Study, confirmation: Study) -> list[dict[str, Any]]:
    """All pairs of confirmed configurations, each through the model of its first seed.

    Returns:
        One mapping for each class that has both kinds of images: `dataset modality class` and what
        `compare_models` gives. Empty with fewer than two models.
    """
    summary = summarize_confirmation(study, confirmation)
    rows = [row for row in summary["strata"] if row["chosen"]][:MOST_MODELS]
    if len(rows) < 2:
        return []
    models = {_name(row): _first_seed(row, confirmed_folder(study)) for row in rows}
    first = next(iter(models.values()))
    found = []
    for k, class_name in enumerate(first.class_names):
        labels = first.positive[:, k].astype(np.int64)
        scores = {name: model.probabilities[:, k] for name, model in models.items()}
        groups = None if first.groups is None else list(first.groups)
        try:
            compared = compare_models(labels, scores, groups)
        except ResultsError:
            continue  # too few images of this class for an error: it has no comparison
        where = {"dataset": study.study_name, "modality": summary["modality"], "class": class_name}
        found.append({**where, **plain(compared)})
    return found


def _name(row: dict[str, Any]) -> str:
    return str(row["stratum"]) or f"trial {row['search_trial']}"


def _first_seed(row: dict[str, Any], folder: Path) -> Predicted:
    model = min(row["models"], key=lambda m: m["seed"])
    return read_predictions(predictions_file(folder / Path(model["folder"]).name, "test"))
