"""Does a predictor (log10 parameters, log2 depth) go with AUC, within one modality?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.effects import (
    Effects,
    Floats,
    Ints,
    cell_means,
    comparing_cells,
    effects_in_dataset,
    effects_over_datasets,
)
from medfathom.analysis.size.inference import Settings, SlopeInference, reach_of_spread, slope_in, slope_of
from medfathom.analysis.size.multiplicity import holm, verdict
from medfathom.analysis.size.permutation import centred, levels, permutation_slope

PREDICTORS = {"log10_params": ("n_params", np.log10), "log2_depth": ("depth", np.log2)}
"""Predictor -> the column it comes from and how it is scaled."""

OTHER_PREDICTORS = {
    "log10_trainable_params": ("n_trainable_params", np.log10),
    "log10_macs": ("macs", np.log10),
}
"""Looked at beside the main line."""

SAME = 1e-9
"""Values of a predictor that differ by less (in the logarithm) are the same."""

ALPHA = 0.05
POWER = 0.80
SPEAKS_FOR = {1: "this data set", 2: "these two data sets"}


@dataclass(frozen=True)
class Modality:
    """One modality's architectures and what they do.

    Attributes:
        name: CXR, OCT, WSI, …
        effects: architecture effects over all its data sets.
        per_dataset: and within each.
        families: shape (n,), codes in the order of `effects.names`.
        family_names: code -> name.
        table: one row per architecture: family, n_params, depth and whatever else is constant for it.
        n_rows: result rows that took part.
    """

    name: str
    effects: Effects
    per_dataset: dict[str, Effects]
    families: Ints
    family_names: list[str]
    table: pd.DataFrame
    n_rows: int

    def predictor(self, name: str) -> Floats:
        """The predictor's value for each architecture, NaN where it is not known."""
        column, scale = (PREDICTORS | OTHER_PREDICTORS)[name]
        raw = self.table[column].to_numpy(float)
        return np.asarray(scale(np.where(raw > 0, raw, np.nan)), dtype=float)


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
    facts = ["n_params", "depth", *(c for c in ("n_trainable_params", "macs") if c in rows)]
    grouped = rows.groupby("architecture", observed=True)
    table = grouped[facts].median().assign(family=grouped["family"].first())
    table = table.loc[effects.names]
    family_names, families = np.unique(table["family"].to_numpy(str), return_inverse=True)
    kept = rows.merge(means[["architecture", "dataset", "init", "unfreeze_depth"]])
    return Modality(
        name, effects, per_dataset, families.astype(np.int64), list(map(str, family_names)), table, len(kept)
    )


def associate(modality: Modality, predictor: str, *, margin: float, settings: Settings) -> dict[str, Any]:
    """The association of one predictor with AUC: DESIGN's `P`, before Holm and the verdict.

    Args:
        modality: the architectures.
        predictor: a key of `PREDICTORS`.
        margin: the smallest slope that matters, AUC per unit of the predictor.
        settings: how much is simulated.
    """
    x = modality.predictor(predictor)
    reason = why_no_slope(x, modality.effects.component)
    if reason:
        return without_answer(margin, reason)
    inference, method, spread = slope_in(
        modality.effects, modality.per_dataset, x, modality.families, settings
    )
    result: dict[str, Any] = {"slope": inference.estimate}
    speaks_for = SPEAKS_FOR.get(
        len(modality.per_dataset), "data sets of this modality, as far as these stand for them"
    )
    if spread is not None:
        result["heterogeneity"] = {
            "slopes": spread.slopes,
            "tau": spread.tau,
            "i2": spread.i2,
            "f": spread.f,
            "p_value": spread.p_value,
            "extra_variance": spread.extra_variance,
        }
    result |= _answers(inference, margin)
    result["per_dataset"] = _by_dataset(modality, x, settings)
    result |= rank_correlations(x, modality.effects.values)
    result["p_within_family"], result["within_family"] = _within_family(modality, x, settings)
    result["n_architectures"] = len(x)
    return result | {"margin": margin, "method": method, "speaks_for": speaks_for, "reason": ""}


def why_no_slope(x: Floats, component: Ints | None = None) -> str:
    """Why the predictor's values give no slope; empty where they do.

    Args:
        x: shape (n,), one value per architecture.
        component: shape (n,), which architectures can be compared; by default all.
    """
    component = np.zeros(len(x), dtype=np.int64) if component is None else component
    groups = len(np.unique(component))
    if np.isnan(x).any():
        return f"the predictor is not known for {int(np.isnan(x).sum())} of {len(x)} architectures"
    if len(x) < 3:
        return f"{len(x)} architectures share cells; a slope with an interval needs at least 3"
    if np.ptp(x) <= SAME:
        return f"all {len(x)} architectures have the same value of this predictor"
    if np.abs(centred(x, component)).max() <= SAME:
        return (
            f"the architectures fall into {groups} groups that share no cells, and in each all have the same "
            "value of this predictor"
        )
    return ""


def _by_dataset(modality: Modality, x: Floats, settings: Settings) -> dict[str, dict[str, Any]]:
    """The slope within each data set, each by itself."""
    place = {name: i for i, name in enumerate(modality.effects.names)}
    found = {}
    for dataset, effects in modality.per_dataset.items():
        index = [place[name] for name in effects.names]
        reason = why_no_slope(x[index], effects.component)
        answer: dict[str, Any] = {"slope": None, "ci95": [None, None], "p_value": None}
        if not reason:
            slope, _ = slope_of(effects, x[index], modality.families[index], settings)
            answer = {"slope": slope.estimate, "ci95": list(slope.interval(0.95)), "p_value": slope.p_value()}
        found[dataset] = answer | {"n_architectures": len(index), "reason": reason}
    return found


def _answers(inference: SlopeInference, margin: float) -> dict[str, Any]:
    return {
        "ci95": list(inference.interval(0.95)),
        "ci90": list(inference.interval(0.90)),
        "p_value": inference.p_value(),
        "smallest_reachable_p": inference.smallest_p,
        "p_equivalence": max(inference.p_greater(-margin), inference.p_less(margin)),
    }


def rank_correlations(x: Floats, values: Floats) -> dict[str, Any]:
    """Spearman's rho and Kendall's tau-b at architecture level, as description only; None where all tie."""
    places = levels(values)
    if places.max() == 0:
        return {"spearman": None, "kendall": None}
    return {
        "spearman": float(stats.spearmanr(x, places).statistic),
        "kendall": float(stats.kendalltau(x, places).statistic),
    }


def _within_family(modality: Modality, x: Floats, settings: Settings) -> tuple[float | None, dict[str, Any]]:
    """Slope and permutation p among members of the same family; None where no family has two members "
    "apart."""
    blocks = modality.families * (int(modality.effects.component.max()) + 1) + modality.effects.component
    apart = any(np.ptp(x[blocks == block]) > 0 for block in np.unique(blocks))
    if not apart:
        return None, {"slope": None, "ci95": [None, None], "smallest_reachable_p": 1.0}
    found = permutation_slope(
        modality.effects.values, x, blocks, draws=settings.permutations, seed=settings.seed
    )
    return found.p_value(), {
        "slope": found.estimate,
        "ci95": list(found.interval(0.95)),
        "smallest_reachable_p": found.smallest_p,
    }


def _needed(answer: Mapping[str, Any], tests: int) -> int | None:
    """Architectures, spread like these, with which a slope of the margin would be found with 80 % power.

    At 5 % over all tests (Bonferroni, which Holm's first step is). The standard error is read off the 90 %
    interval less the spread over data sets, and shrinks with the root of n - 2; the spread does not shrink.
    """
    margin = _left_by_spread(answer, tests)
    half = np.abs(np.array(answer["ci90"]) - answer["slope"])
    if not np.isfinite(half).all() or margin <= 0:
        return None
    spread = reach_of_spread(_spread(answer), 0.95)
    alpha = ALPHA / tests
    df = max(answer["n_architectures"] - 2, 1)
    error = float(np.sqrt(np.maximum(half**2 - spread**2, 0)).mean() / stats.t.ppf(0.95, df))
    target = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    for count in range(4, 100_001):
        own = count - 2
        scale = float(stats.t.ppf(1 - alpha / 2, own) + stats.t.ppf(POWER, own)) if own < 200 else target
        if scale * error * np.sqrt(df / own) <= margin:
            return count
    return None


def _spread(answer: Mapping[str, Any]) -> list[tuple[float, int]]:
    """What the data sets' own slopes add to the slope's variance, with its degrees of freedom."""
    found = answer.get("heterogeneity")
    return [(found["extra_variance"], len(found["slopes"]) - 1)] if found else []


def _left_by_spread(answer: Mapping[str, Any], tests: int) -> float:
    """Of the margin, what the spread over data sets leaves for the architectures' own error; 0 for none."""
    spread = reach_of_spread(_spread(answer), 1 - ALPHA / tests / 2) + reach_of_spread(_spread(answer), POWER)
    return float(np.sqrt(max(answer["margin"] ** 2 - spread**2, 0.0)))


def without_answer(margin: float, reason: str) -> dict[str, Any]:
    """`P` where there is no slope to be had, and why."""
    keys = ["slope", "p_value", "smallest_reachable_p", "p_within_family", "spearman", "kendall"]
    empty: dict[str, Any] = dict.fromkeys([*keys, "p_equivalence", "architectures_needed"])
    return {
        **empty,
        "ci95": [None, None],
        "ci90": [None, None],
        "per_dataset": {},
        "within_family": {"slope": None, "ci95": [None, None], "smallest_reachable_p": None},
        "sensitivity": [],
        "margin": margin,
        "method": "none",
        "speaks_for": "",
        "reason": reason,
    }


def judge(found: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Add `p_holm`, `p_equivalence_holm` and `verdict` to the associations, over modalities x predictors."""
    answered = [p for p in found.values() if p["p_value"] is not None]
    for key, adjusted in (("p_value", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
        for p, value in zip(answered, holm([p[key] for p in answered]), strict=True):
            p[adjusted] = value
    for p in found.values():
        if p["p_value"] is None:
            p |= {"p_holm": None, "p_equivalence_holm": None, "verdict": "inconclusive"}
            continue
        p["architectures_needed"] = _needed(p, len(answered))
        p["verdict"] = verdict(p["slope"], p["p_holm"], p["p_equivalence_holm"], ALPHA)
        if p["verdict"] == "inconclusive":
            p["reason"] = _why_inconclusive(p, len(answered)) + _more_data_sets(p, len(answered))


def _why_inconclusive(p: Mapping[str, Any], tests: int) -> str:
    least = min(1.0, p["smallest_reachable_p"] * tests)
    if least > ALPHA:
        return (
            f"so few architectures cannot give a p-value below {p['smallest_reachable_p']:.2g} "
            f"({least:.2g} after Holm over {tests} tests), whatever their AUCs"
        )
    if p["p_value"] <= ALPHA or p["p_equivalence"] <= ALPHA:
        what = "told from zero" if p["p_value"] <= ALPHA else "within the margin"
        return f"the slope is {what} taken alone, but not after Holm's adjustment for {tests} tests"
    if not np.isfinite(p["ci95"]).all():
        return "the design does not bound the slope"
    return "the data agree with no slope and with slopes that would matter"


def _more_data_sets(p: Mapping[str, Any], tests: int) -> str:
    """That no number of architectures would do, where it would not."""
    if not _spread(p) or _left_by_spread(p, tests) > 0:
        return ""
    count = len(p["heterogeneity"]["slopes"])
    return (
        f"; slopes differ so much between these {count} data sets that more data sets are needed, "
        "however many architectures there are"
    )
