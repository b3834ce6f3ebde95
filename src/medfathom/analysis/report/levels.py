"""The AUC of each architecture of a modality, over the same cells for all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfathom.analysis.modality import Modality


def levels_of(modality: Modality) -> pd.DataFrame:
    """One row per architecture: family, size, and `auc`, what it would have on average in all cells.

    The architecture's effect plus the level of the modality's own cells, which may be fewer than those of the
    results: ImageNet accuracy, say, is asked of pretrained networks. Where architectures fall into groups
    that share no cells, `auc` is only comparable within `group`.
    """
    values = modality.effects.values + modality.level
    table = modality.table.assign(auc=values, group=modality.effects.component)
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
