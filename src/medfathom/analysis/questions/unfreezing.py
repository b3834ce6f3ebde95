"""How many layer groups to unfreeze: the best depth of a data set, and those not significantly worse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import OPTIONAL
from medfathom.analysis.effects import DIGITS, Floats, Ints, family_codes
from medfathom.analysis.questions.ranking import p_by_permutation
from medfathom.analysis.size.inference import Settings, mean_of
from medfathom.analysis.size.multiplicity import ALPHA, holm


@dataclass(frozen=True, kw_only=True)
class UnfreezeDepths:
    """One data set's unfreeze depths, with one init.

    Attributes:
        modality: of the data set.
        dataset: its name.
        init: the one that they are compared with.
        depths: that were run.
        n_architectures: seen at every depth; only these are compared.
        mean_auc: depth -> mean over them; None where there is none.
        best: the depth of the largest mean.
        not_worse: the best and those not significantly worse; all where architectures are too few.
        reason: why depths cannot be told apart; empty where they can.
    """

    modality: str
    dataset: str
    init: str
    depths: list[str]
    n_architectures: int
    mean_auc: dict[str, float] | None = field(default=None, metadata=OPTIONAL)
    best: str | None = None
    not_worse: list[str]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class DepthOverDatasets:
    """One unfreeze depth (a number or a word) over several data sets, each weighing the same.

    Attributes:
        unfreeze_depth: its name.
        mean_auc: over architectures and settings, then over data sets.
        mean_rank: among the depths of one architecture, data set and setting, likewise; 1 is the best.
        wins: cells (architecture, data set, setting) in which it is the best; a tie is shared.
    """

    unfreeze_depth: str
    mean_auc: float
    mean_rank: float
    wins: float


@dataclass(frozen=True, kw_only=True)
class DepthsOverDatasets:
    """Unfreeze depths compared over data sets, with one init.

    Attributes:
        modality: of the data sets; `all` for those of all modalities.
        init: the one that they are compared with.
        depths: the best mean AUC first.
        n_cells: with every depth; only these count.
        n_left_out: cells that lack some depth.
        n_datasets: that have such cells.
        n_architectures: likewise.
        p_value: of "no depth ranks higher than another", data sets being the judges (Friedman's statistic by
            permutation); None for fewer than three data sets.
    """

    modality: str
    init: str
    depths: list[DepthOverDatasets]
    n_cells: int
    n_left_out: int
    n_datasets: int
    n_architectures: int
    p_value: float | None = None


def depths_over_datasets(rows: pd.DataFrame, settings: Settings) -> list[DepthsOverDatasets]:
    """Ranks, wins and mean AUC of the unfreeze depths, by init: over all data sets, and over a modality's.

    Only cells (architecture, data set, setting) that have every depth count: others would compare depths on
    different networks.
    """
    found = []
    for init, part in rows.groupby("init", observed=True):
        scopes = [("all", part), *part.groupby("modality", observed=True)]
        if len(scopes) == 2:  # one modality: it is all
            scopes = scopes[1:]
        pooled = (_pooled(str(scope), str(init), own, settings) for scope, own in scopes)
        found += [one for one in pooled if one is not None]
    return found


def _pooled(modality: str, init: str, rows: pd.DataFrame, settings: Settings) -> DepthsOverDatasets | None:
    """None where fewer than two data sets have cells with every depth, or there is one depth."""
    wide = rows.pivot_table(
        index=["dataset", "architecture", "setting"],
        columns="unfreeze_depth",
        values="auc",
        aggfunc="mean",
        observed=True,
    )
    complete = wide.dropna().round(DIGITS)
    by_dataset = complete.groupby(level="dataset", observed=True)
    if wide.shape[1] < 2 or by_dataset.ngroups < 2:
        return None
    ranks = complete.rank(axis=1, ascending=False)
    best = complete.eq(complete.max(axis=1), axis=0)
    wins = best.div(best.sum(axis=1), axis=0).sum()
    means = by_dataset.mean().mean().sort_values(ascending=False, kind="stable")
    mean_ranks = ranks.groupby(level="dataset", observed=True).mean()
    table = -mean_ranks.to_numpy(float).T
    judged = len(mean_ranks) >= FEWEST_JUDGES
    return DepthsOverDatasets(
        modality=modality,
        init=init,
        depths=[
            DepthOverDatasets(
                unfreeze_depth=str(depth),
                mean_auc=float(means[depth]),
                mean_rank=float(mean_ranks[depth].mean()),
                wins=float(wins[depth]),
            )
            for depth in means.index
        ],
        n_cells=len(complete),
        n_left_out=len(wide) - len(complete),
        n_datasets=by_dataset.ngroups,
        n_architectures=complete.index.get_level_values("architecture").nunique(),
        p_value=p_by_permutation(table, draws=settings.permutations, seed=settings.seed) if judged else None,
    )


FEWEST_JUDGES = 3
"""Data sets that a test of ranks needs."""


def unfreeze_depths(rows: pd.DataFrame, settings: Settings) -> list[UnfreezeDepths]:
    """Per data set and init: mean AUC by unfreeze depth, the best, and the depths not significantly worse.

    Compared over the architectures seen at every depth. A depth leaves the set when some other depth is
    better over architectures (one-sided, families random), Holm over all ordered pairs: the truly best
    one stays in the set with 95 % confidence.
    """
    found = []
    for (modality, dataset, init), part in rows.groupby(["modality", "dataset", "init"], observed=True):
        wide = part.pivot_table(
            index=["architecture", "setting"],
            columns="unfreeze_depth",
            values="auc",
            aggfunc="mean",
            observed=True,
        )
        if wide.shape[1] < 2:
            continue
        complete = wide.dropna().groupby(level="architecture").mean()
        codes = family_codes(part, list(complete.index))
        found.append(_best_depth((str(modality), str(dataset), str(init)), complete, codes, settings))
    return found


def _best_depth(
    where: tuple[str, str, str], complete: pd.DataFrame, families: Ints, settings: Settings
) -> UnfreezeDepths:
    """Compare the depths (columns) of one data set and init over its architectures (rows)."""
    modality, dataset, init = where
    depths = list(map(str, complete.columns))
    n = len(complete)
    found = UnfreezeDepths(
        modality=modality, dataset=dataset, init=init, depths=depths, n_architectures=n, not_worse=depths
    )
    if n == 0:
        return replace(found, reason="no architecture was run at every depth")
    means = complete.mean().round(DIGITS)
    mean_auc = {str(depth): float(value) for depth, value in means.items()}
    found = replace(found, mean_auc=mean_auc, best=str(means.idxmax()))
    if n < 3:
        reason = f"{n} architectures with every depth are too few to compare depths; at least 3 are needed"
        return replace(found, reason=reason)
    out = _worse_than_another(complete.to_numpy(float), families, settings)
    return replace(found, not_worse=[depth for i, depth in enumerate(depths) if i not in out])


def _worse_than_another(table: Floats, families: Ints, settings: Settings) -> set[int]:
    """The columns of a table (architectures, depths) that some other column is better than."""
    ordered = list(permutations(range(table.shape[1]), 2))
    p_values = [_p_worse(table[:, worse] - table[:, better], families, settings) for worse, better in ordered]
    return {worse for (worse, _), p in zip(ordered, holm(p_values), strict=True) if p <= ALPHA}


def _p_worse(differences: Floats, families: Ints, settings: Settings) -> float:
    """One-sided p-value against "the mean difference is at least 0".

    Equal differences have no variance to test with: that all families are worse is then the evidence, by
    the sign test.
    """
    differences = differences.round(DIGITS)
    if np.ptp(differences) == 0:
        return 0.5 ** len(np.unique(families)) if differences[0] < 0 else 1.0
    return mean_of(differences, families, settings).p_less()
