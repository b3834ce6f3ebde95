"""The AUC of each architecture of a modality, over the same cells for all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfathom.analysis.effects import cell_means, comparing_cells
from medfathom.analysis.modality import Modality


def levels_of(modality: Modality, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per architecture: family, size, and `auc`, what it would have on average in all cells.

    The architecture's effect plus the mean AUC of the data sets, each data set weighing the same. Where
    architectures fall into groups that share no cells, `auc` is only comparable within `group`.

    Args:
        modality: the architectures.
        rows: of the results, at least those of this modality.
    """
    own = rows[(rows["modality"] == modality.name)]
    means = comparing_cells(cell_means(own))
    known = means[means["dataset"].isin(list(modality.per_dataset))]
    level = float(known.groupby("dataset", observed=True)["value"].mean().mean())
    table = modality.table.assign(auc=modality.effects.values + level, group=modality.effects.component)
    return table.rename_axis("architecture").reset_index()


def on_the_front(size: pd.Series[float], auc: pd.Series[float]) -> pd.Series[bool]:
    """Whether no other architecture is at most as large and has at least the AUC, being better in one.

    >>> on_the_front(pd.Series([1.0, 2.0, 3.0]), pd.Series([0.8, 0.7, 0.9])).tolist()
    [True, False, True]
    """
    x, y = size.to_numpy(float), auc.to_numpy(float)
    as_good = (x[None, :] <= x[:, None]) & (y[None, :] >= y[:, None])
    better = (x[None, :] < x[:, None]) | (y[None, :] > y[:, None])
    known = np.isfinite(x) & np.isfinite(y)
    return pd.Series(known & ~(as_good & better & known[None, :]).any(1), index=size.index)
