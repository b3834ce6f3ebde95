"""What pretraining brings, and how much to unfreeze: the paper's other questions, with paired intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from medfathom.analysis.effects import Floats, Ints, two_way
from medfathom.analysis.size.association import ALPHA
from medfathom.analysis.size.inference import OverDatasets, Settings, mean_of
from medfathom.analysis.size.multiplicity import holm

BASELINES = ("random", "imagenet-stats")
"""Inits that carry no learnt features."""

DIGITS = 10
"""Of an AUC; differences below are the rounding of binary fractions."""


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
        means = np.array([float(np.mean(differences)) for differences in pairs.values()])
        codes = _family_codes(rows, list(pairs))
        found.append(
            {"level": "dataset", **shared, "architecture": None, **over_architectures(means, codes, settings)}
        )
    return found


def _family_codes(rows: pd.DataFrame, architectures: list[str]) -> Ints:
    families = rows.drop_duplicates("architecture").set_index("architecture")["family"]
    return np.unique(families.loc[architectures].to_numpy(str), return_inverse=True)[1].astype(np.int64)


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], dict[str, Floats]]]:
    """((modality, data set, depth, init, baseline), architecture -> differences over its seeds)."""
    for key, part in rows.groupby(["modality", "dataset", "unfreeze_depth"], observed=True):
        names, inits, table, seeded = _by_seed(part)
        for baseline in (i for i in BASELINES if i in inits):
            for init in (i for i in inits if i not in BASELINES):
                sides = table[:, :, inits.index(init)], table[:, :, inits.index(baseline)]
                differences = {
                    name: _differences(with_, without, seeded)
                    for name, with_, without in zip(names, *sides, strict=True)
                    if np.isfinite(with_).any() and np.isfinite(without).any()
                }
                if differences:
                    yield (*map(str, key), init, baseline), differences


def _by_seed(part: pd.DataFrame) -> tuple[list[str], list[str], Floats, NDArray[np.bool_]]:
    """Architectures, inits, AUCs (architecture, seed, init; NaN for none), which seeds are named."""
    name, names = pd.factorize(part["architecture"], sort=True)
    init, inits = pd.factorize(part["init"], sort=True)
    seed, seeds = pd.factorize(part["seed"].fillna(""), sort=True)
    table = np.full((len(names), len(seeds), len(inits)), np.nan)
    table[name, seed, init] = part["auc"].to_numpy(float)
    return list(map(str, names)), list(map(str, inits)), table, np.asarray(seeds != "")


def _differences(with_: Floats, without: Floats, seeded: NDArray[np.bool_]) -> Floats:
    """By seed where the same seeds are on both sides, else the difference of the means."""
    one, other = np.isfinite(with_), np.isfinite(without)
    if (one == other).all() and seeded[one].all():
        result: Floats = (with_ - without)[one].round(DIGITS)
        return result
    return np.array([with_[one].mean() - without[other].mean()]).round(DIGITS)


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
    values = values.round(DIGITS)
    result = {"benefit": float(values.mean()), "n": len(values), "unit": "architecture"}
    if len(values) < 2 or np.ptp(values) == 0:
        return result | {"ci95": [None, None], "p_value": None}
    found = mean_of(values, families, settings)
    return result | {"ci95": list(found.interval(0.95)), "p_value": found.p_value()}


@dataclass(frozen=True)
class Covariate:
    """Something known of data sets.

    Attributes:
        values: by data set; absent or NaN where not known.
        reason: why it is known for none, where there is more to say than that.
        measured_by: the architectures that it was measured with, if any.
    """

    values: pd.Series[float]
    reason: str = ""
    measured_by: list[str] = field(default_factory=list)


def benefit_over_datasets(
    benefits: list[dict[str, Any]],
    rows: pd.DataFrame,
    covariates: Mapping[str, Covariate],
    settings: Settings,
) -> list[dict[str, Any]]:
    """The benefit over architectures and data sets, and its slope on what is known of the data sets.

    Args:
        benefits: from `pretraining_benefit`.
        rows: those that the benefits came from; families are read off them.
        covariates: name -> by data set.
        settings: how much is simulated.

    Returns:
        One mapping per (init, baseline, unfreeze depth) seen in three data sets and two architectures.
    """
    table = pd.DataFrame([b for b in benefits if b["level"] == "architecture"])
    found: list[dict[str, Any]] = []
    if table.empty:
        return found
    for key, part in table.groupby(["init", "baseline", "unfreeze_depth"]):
        if part["dataset"].nunique() < 3 or part["architecture"].nunique() < 2:
            continue
        crossed = _crossed(part)
        codes = _family_codes(rows, list(crossed.by_architecture.index))
        found.append(
            dict(zip(("init", "baseline", "unfreeze_depth"), map(str, key), strict=True))
            | _over_datasets(crossed, codes, settings)
            | {"against": {c: _trend(crossed.by_dataset, known) for c, known in covariates.items()}}
        )
    return found


@dataclass(frozen=True)
class _Crossed:
    """Benefits of architectures in data sets, taken apart by least squares: architecture + data set.

    Attributes:
        by_architecture: each architecture's benefit, as if seen in all data sets.
        by_dataset: each data set's, as if all architectures were seen in it.
        weight: shape (D,), of each data set in the mean over architectures.
        noise: variance that `by_dataset` has from the interaction of the two and from seeds.
    """

    by_architecture: pd.Series[float]
    by_dataset: pd.Series[float]
    weight: Floats
    noise: float


def _crossed(part: pd.DataFrame) -> _Crossed:
    cells = pd.factorize(part["dataset"])[0].astype(np.int64)
    effects = two_way(part["architecture"].tolist(), cells, part["benefit"].to_numpy(float))
    own = pd.Series(effects.values, index=effects.names)
    group = pd.Series(effects.component, index=effects.names)
    by_dataset = (part["benefit"] - part["architecture"].map(own)).groupby(part["dataset"]).mean()
    # Data sets that share no architecture, even by way of others, form groups of their own.
    group_of = part.groupby("dataset")["architecture"].first().map(group)
    by_architecture = own + group.map(by_dataset.groupby(group_of).mean())
    weight = group_of.map(group.value_counts() / len(group) / group_of.value_counts())
    noise = (effects.noise_variance or 0.0) * float((1 / part.groupby("dataset").size()).mean())
    shares: Floats = np.asarray(weight, dtype=float)
    return _Crossed(by_architecture.round(DIGITS), by_dataset.round(DIGITS), shares, noise)


def _over_datasets(crossed: _Crossed, families: Ints, settings: Settings) -> dict[str, Any]:
    """The mean and its interval; architectures (families random) and data sets are both samples.

    The same architectures come back in every data set, so what is peculiar to them does not average out
    over data sets. Both parts hold the noise that they share: nothing is taken off for it, so that the
    interval is never narrower than that over the data sets alone.
    """
    values: Floats = np.asarray(crossed.by_architecture, dtype=float)
    by_dataset = crossed.by_dataset
    count, variance = len(by_dataset), float(by_dataset.var())
    tau2 = max(0.0, variance - crossed.noise)
    result: dict[str, Any] = {
        "n_datasets": count,
        "n_architectures": len(values),
        "benefit": float(values.mean()),
        "ci95": [None, None],
        "p_value": None,
        "tau": float(np.sqrt(tau2)),
        "i2": tau2 / variance if variance > 0 else 0.0,
        "prediction95": [None, None],
    }
    if np.ptp(values) == 0 and variance == 0:
        return result
    within = mean_of(values, families, settings)
    extra = variance * float(crossed.weight @ crossed.weight)
    whole, another = (OverDatasets(within, ((v, count - 1),)) for v in (extra, extra + tau2))
    return result | {
        "benefit": whole.estimate,
        "ci95": list(whole.interval(0.95)),
        "p_value": whole.p_value(),
        "prediction95": list(another.interval(0.95)),
    }


def _trend(by_dataset: pd.Series[float], covariate: Covariate) -> dict[str, Any]:
    """Least squares over data sets: they are the units here."""
    x = covariate.values.reindex(by_dataset.index).to_numpy(float)
    y = by_dataset.to_numpy(float)
    known = np.isfinite(x)
    n = int(known.sum())
    found: dict[str, Any] = {"slope": None, "ci95": [None, None], "p_value": None, "n_datasets": n}
    found |= {"measured_by": covariate.measured_by, "reason": covariate.reason}
    if n < 4 or np.ptp(x[known]) == 0:
        few = f"known for {n} data sets; at least 4 that differ are needed"
        return found | {"reason": covariate.reason or few}
    fit = stats.linregress(x[known], y[known])
    reach = float(stats.t.ppf(0.975, n - 2) * fit.stderr)
    ci95 = [float(fit.slope) - reach, float(fit.slope) + reach]
    return found | {"slope": float(fit.slope), "ci95": ci95, "p_value": float(fit.pvalue)}


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
        codes = _family_codes(part, list(complete.index))
        found.append(named | _best_depth(complete, codes, settings))
    return found


def _best_depth(complete: pd.DataFrame, families: Ints, settings: Settings) -> dict[str, Any]:
    depths = list(map(str, complete.columns))
    n = len(complete)
    if n == 0:
        reason = "no architecture was run at every depth"
        return {"depths": depths, "n_architectures": 0, "best": None, "not_worse": depths, "reason": reason}
    means = complete.mean().round(DIGITS)
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
    differences = differences.round(DIGITS)
    if np.ptp(differences) == 0:
        return 1.0
    return mean_of(differences, families, settings).p_less()
