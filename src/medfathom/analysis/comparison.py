"""What pretraining brings, and how much to unfreeze: the paper's other questions, with paired intervals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.association import ALPHA
from medfathom.analysis.cells import Floats, Ints
from medfathom.analysis.inference import Settings, mean_of
from medfathom.analysis.multiplicity import holm
from medfathom.analysis.synthesis import hartung_knapp

BASELINES = ("random", "imagenet-stats")
"""Inits that carry no learnt features."""


def pretraining_benefit(rows: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """AUC with pretrained weights less AUC without, paired within architecture, data set and unfreeze depth.

    Returns:
        One mapping per (data set, unfreeze depth, init, baseline) and architecture (`level` architecture; the
        interval over seeds, from two of them on), and one over its architectures (`level` dataset; the
        interval over architectures, families random).
    """
    found: list[dict[str, Any]] = []
    for key, pairs in _pairs(rows):
        shared = {
            "modality": key[0],
            "dataset": key[1],
            "unfreeze_depth": key[2],
            "init": key[3],
            "baseline": key[4],
        }
        found += [
            {"level": "architecture", **shared, "architecture": name, **_paired(differences)}
            for name, differences in pairs.items()
        ]
        families = rows.drop_duplicates("architecture").set_index("architecture")["family"]
        means = np.array([float(np.mean(differences)) for differences in pairs.values()])
        codes = np.unique(families.loc[list(pairs)].to_numpy(str), return_inverse=True)[1]
        found.append(
            {"level": "dataset", **shared, "architecture": None, **over_architectures(means, codes, settings)}
        )
    return found


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], dict[str, Floats]]]:
    """((modality, data set, depth, init, baseline), architecture -> differences over its seeds)."""
    for key, part in rows.groupby(["modality", "dataset", "unfreeze_depth"], observed=True):
        inits = sorted(part["init"].unique())
        for baseline in (i for i in BASELINES if i in inits):
            for init in (i for i in inits if i not in BASELINES):
                pairs = {}
                for name, own in part.groupby("architecture", observed=True):
                    differences = _differences(own[own["init"] == init], own[own["init"] == baseline])
                    if len(differences):
                        pairs[str(name)] = differences
                if pairs:
                    yield (*map(str, key), init, baseline), pairs


def _differences(with_: pd.DataFrame, without: pd.DataFrame) -> Floats:
    """By seed where the same seeds are on both sides, else the difference of the means."""
    if with_.empty or without.empty:
        return np.array([])
    seeds = set(with_["seed"].dropna()) & set(without["seed"].dropna())
    if seeds and len(seeds) == max(len(with_), len(without)):
        one, other = (part.set_index("seed")["auc"].sort_index() for part in (with_, without))
        return np.asarray((one - other).to_numpy(float))
    return np.array([float(with_["auc"].mean() - without["auc"].mean())])


def _paired(differences: Floats) -> dict[str, Any]:
    n, mean = len(differences), float(np.mean(differences))
    result: dict[str, Any] = {"benefit": mean, "n": n, "unit": "seed", "ci95": [None, None], "p_value": None}
    if n >= 2 and np.ptp(differences) > 0:
        error = float(np.std(differences, ddof=1) / np.sqrt(n))
        reach = float(stats.t.ppf(0.975, n - 1)) * error
        result |= {
            "ci95": [mean - reach, mean + reach],
            "p_value": float(2 * stats.t.sf(abs(mean) / error, n - 1)),
        }
    return result


def over_architectures(values: Floats, families: Ints, settings: Settings) -> dict[str, Any]:
    """Mean over architectures with its interval, families random; no interval for fewer than two."""
    result = {"benefit": float(values.mean()), "n": len(values), "unit": "architecture"}
    if len(values) < 2 or np.ptp(values) == 0:
        return result | {"ci95": [None, None], "p_value": None}
    found = mean_of(values, families.astype(np.int64), settings)
    return result | {"ci95": list(found.interval(0.95)), "p_value": found.p_value()}


def benefit_over_datasets(benefits: list[dict[str, Any]], covariates: pd.DataFrame) -> list[dict[str, Any]]:
    """The benefit over data sets (Hartung-Knapp), and its slope on data set size and domain shift.

    Args:
        benefits: from `pretraining_benefit`.
        covariates: by data set, columns `log10_n_train` and `domain_shift`, NaN where not known.
    """
    table = pd.DataFrame([b for b in benefits if b["level"] == "dataset" and b["p_value"] is not None])
    found: list[dict[str, Any]] = []
    if table.empty:
        return found
    for key, part in table.groupby(["init", "baseline", "unfreeze_depth"]):
        if part["dataset"].nunique() < 3:
            continue
        widths = np.array([high - low for low, high in part["ci95"]])
        variances = (widths / 2 / stats.t.ppf(0.975, part["n"].to_numpy() - 1)) ** 2
        whole = hartung_knapp(part["benefit"].to_numpy(float), variances)
        found.append(
            dict(zip(("init", "baseline", "unfreeze_depth"), map(str, key), strict=True))
            | {
                "n_datasets": len(part),
                "benefit": whole.estimate,
                "ci95": list(whole.ci95),
                "p_value": whole.p_value,
            }
            | {"tau": float(np.sqrt(whole.tau2)), "i2": whole.i2, "prediction95": whole.prediction95}
            | {"against": {c: _trend(part, covariates[c]) for c in covariates.columns}}
        )
    return found


def _trend(part: pd.DataFrame, covariate: pd.Series[float]) -> dict[str, Any]:
    """Least squares over data sets: they are the units here."""
    x = covariate.reindex(part["dataset"]).to_numpy(float)
    y = part["benefit"].to_numpy(float)
    known = np.isfinite(x)
    n = int(known.sum())
    if n < 4 or np.ptp(x[known]) == 0:
        reason = f"known for {n} data sets; at least 4 that differ are needed"
        return {"slope": None, "ci95": [None, None], "p_value": None, "n_datasets": n, "reason": reason}
    fit = stats.linregress(x[known], y[known])
    reach = float(stats.t.ppf(0.975, n - 2) * fit.stderr)
    ci95 = [float(fit.slope) - reach, float(fit.slope) + reach]
    return {
        "slope": float(fit.slope),
        "ci95": ci95,
        "p_value": float(fit.pvalue),
        "n_datasets": n,
        "reason": "",
    }


def unfreeze_depths(rows: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Per data set and init: mean AUC by unfreeze depth, the best, and the depths not told from the best.

    Compared over the architectures seen at every depth. A depth leaves the set when some other depth is
    better over architectures (one-sided, families random), Holm over all ordered pairs: the truly best
    one stays in the set with 95 % confidence.
    """
    found = []
    for key, part in rows.groupby(["modality", "dataset", "init"], observed=True):
        wide = part.pivot_table(
            index="architecture", columns="unfreeze_depth", values="auc", aggfunc="mean", observed=True
        )
        if wide.shape[1] < 2:
            continue
        complete = wide.dropna()
        named = dict(zip(("modality", "dataset", "init"), map(str, key), strict=True))
        families = part.drop_duplicates("architecture").set_index("architecture")["family"]
        codes = np.unique(families.loc[complete.index].to_numpy(str), return_inverse=True)[1]
        found.append(named | _best_depth(complete, codes.astype(np.int64), settings))
    return found


def _best_depth(complete: pd.DataFrame, families: Ints, settings: Settings) -> dict[str, Any]:
    depths = list(map(str, complete.columns))
    n = len(complete)
    if n == 0:
        reason = "no architecture was run at every depth"
        return {"depths": depths, "n_architectures": 0, "best": None, "not_worse": depths, "reason": reason}
    means = complete.mean()
    result: dict[str, Any] = {
        "depths": depths,
        "n_architectures": n,
        "mean_auc": {str(depth): float(value) for depth, value in means.items()},
        "best": str(means.idxmax()),
    }
    if n < 3:
        reason = f"{n} architectures at every depth are too few to tell depths apart; at least 3 are needed"
        return result | {"not_worse": depths, "reason": reason}
    ordered = list(permutations(range(len(depths)), 2))
    table = complete.to_numpy(float)
    p_values = [_worse(table[:, worse] - table[:, better], families, settings) for worse, better in ordered]
    adjusted = holm(p_values)
    out = {depths[worse] for (worse, _), p in zip(ordered, adjusted, strict=True) if p <= ALPHA}
    return result | {"not_worse": [d for d in depths if d not in out], "reason": ""}


def _worse(differences: Floats, families: Ints, settings: Settings) -> float:
    if np.ptp(differences) == 0:
        return 1.0
    return mean_of(differences, families, settings).p_less()
