"""For whom a confirmed model works on its own test split: columns of the data joined with its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from medfathom.confirmation.find import predictions_file
from medfathom.data.listing import list_images
from medfathom.data.sources.open import open_source
from medfathom.evaluation.judging import Predictions, metrics_of
from medfathom.evaluation.subgroups import Subgroups, columns_of, subgroups_of
from medfathom.evaluation.words import subgroup_lines, subgroup_table
from medfathom.models.folder import read_config

if TYPE_CHECKING:
    from pathlib import Path

    from medfathom.confirmation.predictions import Predicted
    from medfathom.confirmation.results import ConfirmedModel
    from medfathom.definitions.dataset import DatasetConfig
    from medfathom.metrics.influences import Floats
    from medfathom.trial.record import SplitMetrics

Columns = Mapping[str, Mapping[str, str]]
"""Column -> name of an image (or case) -> its subgroup, "" where it has none."""

SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken."""


def columns_by_name(config: DatasetConfig, by: str) -> Columns:
    """The columns that `--by` names. No pixel is read. All images of a case have its value.

    Raises:
        InputError: as `columns_of` does.
        DataError: the source cannot be used.
    """
    source = open_source(config)
    try:
        listing = list_images(source, config)
    finally:
        source.close()
    units = listing.names if listing.cases is None else listing.cases.tolist()
    found = columns_of(by, listing.kept)
    return {column: dict(zip(units, cells.tolist(), strict=True)) for column, cells in found.items()}


def own_metrics(folder: Path, split: str) -> SplitMetrics:
    """Every metric of a split, by the predictions and the configuration in a folder.

    Raises:
        StorageError: the predictions are gone.
    """
    from medfathom.confirmation.predictions import read_logits, read_predictions  # noqa: PLC0415  imports pandas

    config, file = read_config(folder), predictions_file(folder, split)
    read = read_predictions(file)
    return metrics_of(Predictions(config, read.labels(config.task), read_logits(file)[0], read.groups))


def own_subgroups(model: ConfirmedModel, columns: Columns) -> Subgroups:
    """Metrics of each subgroup of the test split, by the predictions that `confirm` kept.

    Raises:
        StorageError: the predictions are gone.
    """
    from medfathom.confirmation.predictions import read_predictions  # noqa: PLC0415  imports pandas

    read = read_predictions(predictions_file(model.folder, "test"))
    # The kept probabilities are calibrated already.
    config = read_config(model.folder).model_copy(update={"calibration": "temperature", "temperature": 1.0})
    found = Predictions(config, read.labels(config.task), _logits(read, config.task), read.groups)
    values = {
        column: np.array([cells.get(name, "") for name in read.names], dtype=np.str_)
        for column, cells in columns.items()
    }
    return subgroups_of(found, values)


def _logits(read: Predicted, task: str) -> Floats:
    """Logits that have these probabilities."""
    p = np.clip(read.probabilities, SMALLEST, 1 - SMALLEST)
    if task == "multilabel":
        logits: Floats = np.log(p) - np.log1p(-p)
        return logits
    logs: Floats = np.log(np.concatenate([1 - p, p], axis=1) if task == "binary" else p)
    return logs


def kept_form(model: ConfirmedModel, found: Subgroups) -> dict[str, object]:
    """As the study keeps it: JSON values, with the table and its lines in words. Nothing of one patient."""
    words = {"table": subgroup_table(found), "lines": subgroup_lines(found)}
    return {"trial": model.trial, **asdict(found), **words}
