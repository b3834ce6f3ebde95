"""One modality's architectures: their effects on AUC, their families, their sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from medfathom.analysis.effects import (
    CELL,
    Effects,
    Floats,
    Ints,
    cell_means,
    comparing_cells,
    effects_in_dataset,
    effects_over_datasets,
    sampling_variance,
)
from medfathom.analysis.predictors import Predictor


@dataclass(frozen=True)
class Modality:
    """One modality's architectures and what they do.

    Attributes:
        name: CXR, OCT, WSI, …
        effects: architecture effects over all its data sets.
        per_dataset: and within each.
        families: shape (n,), codes in the order of `effects.names`.
        family_names: code -> name.
        table: one row per architecture: its family, and the median of each predictor's column.
        n_rows: result rows that took part.
        level: mean AUC of its cells without the architectures' effects, each data set weighing the same.
    """

    name: str
    effects: Effects
    per_dataset: dict[str, Effects]
    families: Ints
    family_names: list[str]
    table: pd.DataFrame
    n_rows: int
    level: float = 0.0

    def values_of(self, predictor: Predictor) -> Floats:
        """The predictor for each architecture, shape (n,), transformed; NaN where it is not known."""
        return predictor.values(self.table)


def predictor_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of numbers that predictors can be read from."""
    return [str(c) for c in rows.select_dtypes("number") if not str(c).startswith("_")]


def modality_of(name: str, rows: pd.DataFrame, outcome: str = "auc") -> Modality | None:
    """Reduce one modality's rows to architecture effects; None where no cell compares two architectures."""
    means = comparing_cells(cell_means(rows, outcome))
    if means.empty:
        return None
    per_dataset = {
        str(dataset): effects_in_dataset(part) for dataset, part in means.groupby("dataset", observed=True)
    }
    effects = (
        next(iter(per_dataset.values())) if len(per_dataset) == 1 else effects_over_datasets(per_dataset)
    )
    kept = rows.merge(means[["architecture", *CELL]])
    if outcome == "auc" and {"auc_se", "n_test"} <= set(rows):
        effects = replace(effects, sampling=sampling_variance(kept, effects.names))
    grouped = rows.groupby("architecture", observed=True)
    table = grouped[predictor_columns(rows)].median().assign(family=grouped["family"].first())
    table = table.loc[effects.names]
    family_names, families = np.unique(table["family"].to_numpy(str), return_inverse=True)
    return Modality(
        name,
        effects,
        per_dataset,
        families.astype(np.int64),
        list(map(str, family_names)),
        table,
        len(kept),
        _level(means, effects),
    )


def _level(means: pd.DataFrame, effects: Effects) -> float:
    """What an architecture of no effect has on average: in the cells of a data set, then over data sets."""
    own = pd.Series(effects.values, index=effects.names)
    rest = means.assign(value=means["value"] - means["architecture"].astype(str).map(own))
    cells = rest.groupby(CELL, observed=True)["value"].mean()
    return float(cells.groupby("dataset", observed=True).mean().mean())
