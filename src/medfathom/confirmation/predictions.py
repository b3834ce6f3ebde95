"""Predictions of one confirmed model, a row for each image or case, as parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medfathom.data.prepared import PreparedData, Split, Units
from medfathom.errors import StorageError
from medfathom.files import write_atomically
from medfathom.metrics.auc import Flags, have_auc
from medfathom.metrics.cases import Cases
from medfathom.metrics.classification import TaskKind, positives
from medfathom.metrics.unknown import UNKNOWN


@dataclass(frozen=True)
class Predicted:
    """Predictions of one model on one split, for each image or case.

    Attributes:
        positive: (n, C), which of them are of each column's class.
        probabilities: (n, C), calibrated.
        class_names: of the C columns.
        groups: each one's patient, (n,); None: not known.
        names: of the images or cases, (n,).
    """

    class_names: list[str]
    positive: Flags
    probabilities: NDArray[np.float64]
    groups: NDArray[Any] | None
    names: list[str]

    def labels(self, task: TaskKind) -> NDArray[Any]:
        """As a data set has them: classes (n,), or flags (n, C) of a multilabel task."""
        if task == "multilabel":
            return self.positive
        flags = self.positive.astype(np.int64)
        return flags[:, 0] if task == "binary" else flags.argmax(axis=1)


def read_logits(path: Path) -> tuple[NDArray[np.float64], NDArray[np.str_] | None]:
    """Of a file by `write_predictions`: logits (n, outputs), and the case of each image (n,).

    Raises:
        StorageError: it is gone or damaged.
    """
    table = _table(path)
    logits = table[[c for c in table.columns if c.startswith("logit:")]].to_numpy(np.float64)
    return logits, table["case"].to_numpy(np.str_) if "case" in table else None


def read_predictions(path: Path) -> Predicted:
    """Read what `write_predictions` wrote.

    Raises:
        StorageError: the file is gone or damaged.
    """
    table = _table(path)
    prefix = "probability:"
    columns = [c for c in table.columns if c.startswith(prefix)]
    values = table[columns].to_numpy(np.float64)
    if "label" in table:
        task = "binary" if len(columns) == 1 else "multiclass"
        positive = positives(task, table["label"].to_numpy(), len(columns))  # type: ignore[arg-type]
    else:
        columns_of_labels = [c for c in table.columns if c.startswith("label:")]
        flags = table[columns_of_labels].fillna(UNKNOWN).to_numpy(np.uint8)
        positive = positives("multilabel", flags, len(columns_of_labels))
    groups = None if table["group"].isna().all() else table["group"].to_numpy()
    names = [str(name) for name in table["name"]]
    return Predicted([c.removeprefix(prefix) for c in columns], positive, values, groups, names)


def read_predictions_with(path: Path, auc: float) -> Predicted | None:
    """Predictions, if they have this AUC; None: they are another model's, see `metrics.auc.have_auc`."""
    read = read_predictions(path)
    return read if have_auc(read.positive, read.probabilities, auc) else None


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise StorageError(
            f"{path}: the predictions are missing; confirm the study again (with --trial, if it is no longer "
            "the best of its stratum)"
        ) from None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: predictions cannot be read ({error}); delete it, then confirm the study again"
        ) from None


def write_predictions(
    path: Path,
    data: PreparedData,
    rows: Split | Units,
    values: NDArray[np.float64],
    logits: NDArray[np.floating],
) -> None:
    """Write one row for each image or case.

    Columns: `name group label` (multilabel: `label:CLASS` for each, empty where it is not known),
    `probability:CLASS` (binary: of the second class), `logit:CLASS`; `case` for images of cases,
    `n_images` for cases.

    Args:
        path: of the file.
        data: the data set.
        rows: the images of a split, or its units.
        values: calibrated probabilities, (n, C).
        logits: (n, outputs).
    """
    names = data.class_names
    table = pd.DataFrame({"name": list(rows.names)})
    if isinstance(rows.cases, Cases):
        table["n_images"] = rows.cases.sizes
    elif rows.cases is not None:
        table["case"] = [str(case) for case in rows.cases]
    table["group"] = None if rows.groups is None else [str(group) for group in rows.groups]
    if data.task == "multilabel":
        for k, name in enumerate(names):
            label = pd.Series(rows.labels[:, k])
            table[f"label:{name}"] = label.astype("UInt8").mask(label == UNKNOWN)
    else:
        table["label"] = rows.labels
    for k, name in enumerate(names[1:] if data.task == "binary" else names):
        table[f"probability:{name}"] = values[:, k]
    for k, name in enumerate(names):
        table[f"logit:{name}"] = logits[:, k]
    write_atomically(path, lambda part: table.to_parquet(part, index=False))


def write_predictions_like(
    source: Path, target: Path, values: NDArray[np.float64], logits: NDArray[np.floating]
) -> None:
    """Write other predictions of the same images or cases as those in `source`; arrays as above."""
    table = _table(source)
    for prefix, numbers in (("probability:", values), ("logit:", logits)):
        table[[c for c in table.columns if c.startswith(prefix)]] = numbers
    write_atomically(target, lambda part: table.to_parquet(part, index=False))
