"""Two values of one hyperparameter, everything else the same; what the mean difference speaks for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfathom.analysis.effects import DIGITS, Floats, family_codes
from medfathom.analysis.questions.pretraining import MeanBenefit, mean_difference, over_architectures
from medfathom.analysis.questions.pretraining_over_datasets import over_both
from medfathom.analysis.size.inference import Settings

FEWEST_DATASETS = 3
"""From so many on, data sets are a sample of others like them."""


def differences(part: pd.DataFrame, column: str, one: object, other: object, keys: list[str]) -> pd.DataFrame:
    """AUC with one value of a column less AUC with another, by `keys` and, where both sides have it, by seed.

    Args:
        part: rows of results.
        column: that is compared.
        one: its value on one side.
        other: its value on the other side.
        keys: columns that must be the same on both sides.

    Returns:
        Columns `keys`, `seed` ("" where seeds are not paired) and `benefit`; no rows where nothing is paired.
    """
    seeds = part["seed"].astype(object).fillna("").astype(str)
    both = part[part[column].isin([one, other])].assign(seed=seeds)
    by_seed = _wide(both, column, one, other, keys)
    paired = by_seed.notna().all(axis=1).groupby(level=keys).any()
    if not paired.all():  # somewhere no seed has both sides: the means are compared
        by_seed = _wide(both.assign(seed=""), column, one, other, keys)
    by_seed = by_seed.dropna()
    found = (by_seed[one] - by_seed[other]).astype(float).round(DIGITS)
    return found.rename("benefit").reset_index()


def _wide(part: pd.DataFrame, column: str, one: object, other: object, keys: list[str]) -> pd.DataFrame:
    """A column for each side; only keys that were run with both, whatever their seeds."""
    wide = part.pivot_table(
        index=[*keys, "seed"], columns=column, values="auc", aggfunc="mean", observed=True
    ).reindex(columns=[one, other])
    return wide[wide.notna().groupby(level=keys).transform("any").all(axis=1)]


def mean_of_pairs(pairs: pd.DataFrame, rows: pd.DataFrame, settings: Settings, margin: float) -> MeanBenefit:
    """The mean, over what there is enough of.

    Over data sets and architectures, where there are at least three data sets and two architectures (both are
    samples); over architectures of fewer data sets (it speaks for these); of one architecture over data sets
    or over seeds (it speaks for that one).

    Args:
        pairs: columns `architecture`, `dataset`, `seed`, `benefit`.
        rows: families are read off them.
        settings: how much is simulated.
        margin: the smallest difference that matters, in AUC.
    """
    cells = pairs.groupby(["architecture", "dataset"], as_index=False, observed=True)[["benefit"]].mean()
    names = sorted(map(str, cells["architecture"].unique()))
    datasets = cells["dataset"].nunique()
    if len(names) == 1:
        if datasets >= FEWEST_DATASETS:
            return mean_difference(_floats(cells["benefit"]), margin, "data set")
        seeds = pairs.groupby("seed", observed=True)["benefit"].mean()
        return mean_difference(_floats(seeds), margin, "seed")
    if datasets >= FEWEST_DATASETS:
        return over_both(cells, rows, settings, margin)
    each = cells.groupby("architecture", observed=True)["benefit"].mean().reindex(names)
    return over_architectures(_floats(each), family_codes(rows, names), settings, margin)


def _floats(values: pd.Series[float]) -> Floats:
    found: Floats = np.asarray(values, dtype=float)
    return found
