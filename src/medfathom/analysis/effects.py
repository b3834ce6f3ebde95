"""From rows to one number per architecture: how much better it does than its neighbours in the same cells.

Architectures are compared only within cells (data set, init, unfreeze depth, any further setting).
Replicates of an architecture in a cell (seeds) are averaged first; where architectures of a cell have
different seeds, what a seed does to all of them is taken out before. Then cell effects are taken out by least
squares, so that an architecture absent from an easy cell does not look worse for it. The outcome is
one effect per architecture with the (scaled) covariance that the pattern of absences gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETTING = ["init", "unfreeze_depth", "setting"]
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
        sampling: shape (n,), variance of each effect from its test images; None where not known, or even.
    """

    names: list[str]
    values: Floats
    covariance: Floats
    component: Ints
    noise_variance: float | None
    noise_df: int
    n_cells: int
    sampling: Floats | None = None

    @property
    def balanced(self) -> bool:
        """Whether all effects are equally precise and equally correlated, as in a table without gaps."""
        if self.sampling is not None:
            return False
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
    """One value per (architecture, data set, init, unfreeze depth, setting), from its replicates.

    The mean, where all architectures of a cell have the same seeds. Elsewhere seeds are blocks: a
    label that only some architectures have (a resolution called a seed, say) must not count for or
    against these.
    """
    keys = ["architecture", *CELL]
    means = frame.groupby(keys, sort=True, observed=True)[outcome].mean().rename("value").reset_index()
    if "seed" not in frame or not frame["seed"].notna().any():
        return means
    uneven = uneven_seeds(frame)
    if uneven.empty:
        return means
    indexed = means.set_index(keys)["value"]
    for _, part in frame.merge(uneven, on=CELL).groupby(CELL, observed=True):
        indexed.update(_seeds_as_blocks(part, keys, outcome))
    return indexed.reset_index()


def uneven_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells (rows of `CELL`) in which architectures have different seeds."""
    seen = frame.assign(seed=frame["seed"].fillna("")).drop_duplicates(["architecture", *CELL, "seed"])
    labels = seen.groupby(CELL, observed=True)["seed"].nunique()
    runs = seen.groupby([*CELL, "architecture"], observed=True).size()
    uneven = labels != runs.groupby(CELL, observed=True).min()
    return uneven[uneven].reset_index()[CELL]


def _seeds_as_blocks(part: pd.DataFrame, keys: list[str], outcome: str) -> pd.Series[float]:
    """One cell's values, by architecture + seed; nothing where seeds do not connect its architectures."""
    own = part.assign(seed=part["seed"].fillna("")).groupby([*keys, "seed"], observed=True)[outcome].mean()
    table = own.reset_index()
    blocks = pd.factorize(table["seed"])[0].astype(np.int64)
    found = two_way(table["architecture"].tolist(), blocks, table[outcome].to_numpy(float))
    if len(found.names) < 2 or int(found.component.max()) > 0:
        return pd.Series(dtype=float)
    cell = table[CELL].iloc[0].tolist()
    index = pd.MultiIndex.from_tuples([(name, *cell) for name in found.names], names=keys)
    return pd.Series(found.values + float(table[outcome].mean()), index=index)


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


EVEN = 1.5
"""Ratio of sampling variances up to which effects count as equally precise."""


def sampling_variance(rows: pd.DataFrame, names: Sequence[str]) -> Floats | None:
    """Variance that the test images give each architecture's effect, shape (n,).

    From `auc_se`, else from `n_test` by Hanley and McNeil (1982) for classes of equal size. Settings
    and seeds of one data set share its test images, data sets do not. None where it is not known for
    all, or about the same for all.
    """
    variance = rows["auc_se"] ** 2
    variance = variance.fillna(_hanley_mcneil(rows["auc"], rows["n_test"] / 2))
    if variance.isna().any():
        return None
    own = (
        rows.assign(variance=variance).groupby(["architecture", "dataset"], observed=True)["variance"].mean()
    )
    grouped = own.groupby("architecture", observed=True)
    found = (grouped.sum() / grouped.size() ** 2).loc[list(names)].to_numpy(float)
    return None if found.max() <= EVEN * found.min() else np.maximum(found, 1e-12)


def _hanley_mcneil(auc: pd.Series[float], each: pd.Series[float]) -> pd.Series[float]:
    """Variance of an AUC from so many images of each class."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return (auc * (1 - auc) + (each - 1) * (q1 - auc**2) + (each - 1) * (q2 - auc**2)) / each**2
