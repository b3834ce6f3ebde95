"""From rows to one number per architecture: how much better it does than its neighbours in the same cells.

Architectures are compared only within cells (data set, init, unfreeze depth). Replicates of an
architecture in a cell (seeds) are averaged first; then cell effects are taken out by least squares, so
that an architecture absent from an easy cell does not look worse for it. The outcome is one effect per
architecture with the (scaled) covariance that the pattern of absences gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETTING = ["init", "unfreeze_depth"]
CELL = ["dataset", *SETTING]
"""The columns that make a cell."""

DIGITS = 10
"""Of an AUC; differences below are the rounding of binary fractions."""


@dataclass(frozen=True)
class Effects:
    """Architecture effects within cells.

    Attributes:
        names: the n architectures, sorted.
        values: shape (n,), in the outcome's unit; the mean within each component is 0.
        covariance: shape (n, n), the effects' covariance for unit noise in each (architecture, cell) mean.
        component: shape (n,), which group of architectures connected through shared cells it belongs to;
            effects of different groups cannot be compared.
        noise_variance: of an (architecture, cell) mean about architecture + cell; None without degrees
            of freedom.
        noise_df: its degrees of freedom.
        n_cells: cells that compare at least two architectures.
    """

    names: list[str]
    values: Floats
    covariance: Floats
    component: Ints
    noise_variance: float | None
    noise_df: int
    n_cells: int

    @property
    def balanced(self) -> bool:
        """Whether all effects are equally precise and equally correlated, as in a table without gaps."""
        off = self.covariance[~np.eye(len(self.names), dtype=bool)]
        diagonal = np.diag(self.covariance)
        scale = float(diagonal.mean())
        return bool(np.ptp(diagonal) < 1e-9 * scale and (off.size == 0 or np.ptp(off) < 1e-9 * scale))

    def places(self, names: Sequence[str]) -> list[int]:
        """Where these architectures stand in `names`."""
        place = {name: i for i, name in enumerate(self.names)}
        return [place[name] for name in names]


def family_codes(rows: pd.DataFrame, architectures: Sequence[str]) -> Ints:
    """Number the families of these architectures, shape (n,); members of one family share a number."""
    families = rows.drop_duplicates("architecture").set_index("architecture")["family"]
    names = families.loc[list(architectures)].to_numpy(str)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def cell_means(frame: pd.DataFrame, outcome: str = "auc") -> pd.DataFrame:
    """Mean of the outcome over replicates: one row per (architecture, data set, init, unfreeze depth)."""
    means = frame.groupby(["architecture", *CELL], sort=True, observed=True)[outcome].mean()
    return means.rename("value").reset_index()


def comparing_cells(means: pd.DataFrame) -> pd.DataFrame:
    """Only the rows in cells where at least two architectures meet."""
    size = means.groupby(CELL, observed=True)["architecture"].transform("size")
    return means[size >= 2]


def effects_in_dataset(means: pd.DataFrame) -> Effects:
    """Architecture effects within one data set's cells (`means` as from `cell_means`, one data set)."""
    cells = means.groupby(SETTING, observed=True).ngroup().to_numpy().astype(np.int64)
    return two_way(means["architecture"].tolist(), cells, means["value"].to_numpy(float))


def effects_over_datasets(per_dataset: dict[str, Effects]) -> Effects:
    """Architecture effects averaged over data sets, each data set weighing the same."""
    names: list[str] = []
    cells: list[int] = []
    values: list[float] = []
    offset = 0
    for effects in per_dataset.values():
        names += effects.names
        cells += (effects.component + offset).tolist()
        values += effects.values.tolist()
        offset += int(effects.component.max()) + 1
    pooled = two_way(names, np.asarray(cells, dtype=np.int64), np.asarray(values))
    n_cells = sum(effects.n_cells for effects in per_dataset.values())
    return replace(pooled, n_cells=n_cells)


def two_way(architectures: Sequence[str], cells: Ints, values: Floats) -> Effects:
    """Least squares of architecture + cell, one value per (architecture, cell).

    The cells are eliminated, which leaves the Laplacian of the architectures' graph; its pseudo-inverse
    is the effects' covariance for unit noise (the intra-block analysis of an incomplete block design).
    """
    names, row = np.unique(np.asarray(architectures, dtype=str), return_inverse=True)
    _, column = np.unique(cells, return_inverse=True)
    n, c = len(names), int(column.max()) + 1
    incidence = np.zeros((n, c))
    table = np.zeros((n, c))
    incidence[row, column] = 1.0
    table[row, column] = values
    per_cell = incidence.sum(0)
    laplacian = np.diag(incidence.sum(1)) - (incidence / per_cell) @ incidence.T
    right = table.sum(1) - incidence @ (table.sum(0) / per_cell)
    component = _connected(incidence)
    together = component[:, None] == component
    flat = together / together.sum(1)
    covariance = np.linalg.inv(laplacian + flat) - flat
    effect = covariance @ right
    parts = int(component.max()) + 1
    cell_effect = (table.sum(0) - incidence.T @ effect) / per_cell
    residual = values - effect[row] - cell_effect[column]
    df = len(values) - n - c + parts
    noise = float(residual @ residual) / df if df > 0 else None
    return Effects(list(map(str, names)), effect, covariance, component, noise, df, c)


def _connected(incidence: Floats) -> Ints:
    """Number the groups of architectures (rows) that shared cells (columns) connect."""
    meets = incidence @ incidence.T > 0
    component = np.full(len(meets), -1, dtype=np.int64)
    for start in range(len(meets)):
        if component[start] >= 0:
            continue
        group = meets[start]
        while True:
            wider = meets[group].any(0)
            if (wider == group).all():
                break
            group = wider
        component[group] = component.max() + 1
    return component
