"""Does pretraining help? One word for each modality and one over all data sets, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import DIGITS, Floats, family_codes
from medfathom.analysis.questions.pretraining import (
    BASELINES,
    WORDS,
    MeanBenefit,
    mean_difference,
    over_architectures,
)
from medfathom.analysis.questions.pretraining_over_datasets import over_both
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.size.multiplicity import holm, verdict

OVER_ALL = "all"
"""The scope of what is said over the data sets of several modalities."""

FEWEST_DATASETS = 3
"""From so many on, data sets are a sample of others like them."""


@dataclass(frozen=True, kw_only=True)
class PretrainingVerdict:
    """What pretraining does in one modality, or over all data sets.

    The benefit is averaged over the seeds, unfreeze depths and further settings that both inits were run
    with, within each architecture and data set. What it is then averaged over is `unit`: `data set and
    architecture` where there are at least three data sets and two architectures (both are samples),
    `architecture` where there are fewer data sets (it speaks for these), `data set` or `seed` where there is
    one architecture (it speaks for that one).

    Attributes:
        scope: the modality; `all` for the data sets of several.
        init: with learnt features.
        baseline: the init without, that it is compared with.
        unfreeze_depths: that it is averaged over.
        n_datasets: with such pairs.
        architectures: likewise.
        mean: the benefit; its p-values are adjusted by Holm's method over all these verdicts.
    """

    scope: str
    init: str
    baseline: str
    unfreeze_depths: list[str]
    n_datasets: int
    architectures: list[str]
    mean: MeanBenefit = field(metadata=FLAT)


def pretraining_verdicts(rows: pd.DataFrame, settings: Settings, margin: float) -> list[PretrainingVerdict]:
    """One for each modality, init and baseline with pairs; of several modalities also one over all data sets.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.
    """
    scopes = [(str(name), part) for name, part in rows.groupby("modality", observed=True, sort=True)]
    if len(scopes) > 1:
        scopes.append((OVER_ALL, rows))
    found = [
        _in_scope(scope, init, baseline, pairs, rows, settings, margin)
        for scope, part in scopes
        for init, baseline, pairs in _paired(part)
    ]
    return _judged(found)


def _paired(part: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(init, baseline, pairs): AUC with less AUC without, by `KEYS` and by seed where both sides have it."""
    inits = sorted(map(str, part["init"].unique()))
    for baseline in (i for i in BASELINES if i in inits):
        for init in (i for i in inits if i not in BASELINES):
            pairs = _differences(part, init, baseline)
            if len(pairs):
                yield init, baseline, pairs


KEYS = ["dataset", "architecture", "unfreeze_depth", "setting"]


def _differences(part: pd.DataFrame, init: str, baseline: str) -> pd.DataFrame:
    """Columns `KEYS`, `seed` ("" where seeds are not paired) and `benefit`."""
    both = part[part["init"].isin([init, baseline])].assign(
        seed=part["seed"].astype(object).fillna("").astype(str)
    )
    by_seed = _wide(both, [*KEYS, "seed"], init, baseline)
    paired = by_seed.notna().all(axis=1).groupby(level=KEYS).any()
    if not paired.all():  # somewhere no seed has both sides: the means are compared
        by_seed = _wide(both.assign(seed=""), [*KEYS, "seed"], init, baseline)
    by_seed = by_seed.dropna()
    found = (by_seed[init] - by_seed[baseline]).round(DIGITS) if len(by_seed) else pd.Series(dtype=float)
    return found.rename("benefit").reset_index() if len(found) else pd.DataFrame()


def _wide(part: pd.DataFrame, keys: list[str], init: str, baseline: str) -> pd.DataFrame:
    """A column for each init; only keys that were run with both, whatever their seeds."""
    wide = part.pivot_table(index=keys, columns="init", values="auc", aggfunc="mean", observed=True)
    wide = wide.reindex(columns=[init, baseline])
    whole = wide.notna().groupby(level=KEYS).transform("any").all(axis=1)
    return wide[whole]


def _in_scope(
    scope: str,
    init: str,
    baseline: str,
    pairs: pd.DataFrame,
    rows: pd.DataFrame,
    settings: Settings,
    margin: float,
) -> PretrainingVerdict:
    names = sorted(map(str, pairs["architecture"].unique()))
    return PretrainingVerdict(
        scope=scope,
        init=init,
        baseline=baseline,
        unfreeze_depths=sorted(map(str, pairs["unfreeze_depth"].unique())),
        n_datasets=pairs["dataset"].nunique(),
        architectures=names,
        mean=_mean(pairs, rows, names, settings, margin),
    )


def _mean(
    pairs: pd.DataFrame, rows: pd.DataFrame, names: list[str], settings: Settings, margin: float
) -> MeanBenefit:
    cells = pairs.groupby(["architecture", "dataset"], as_index=False, observed=True)[["benefit"]].mean()
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


def _judged(found: list[PretrainingVerdict]) -> list[PretrainingVerdict]:
    """Adjusted over all of them; what has no p-value stays inconclusive."""
    places = [i for i, one in enumerate(found) if one.mean.p_value is not None]
    p_holm = holm([found[i].mean.p_value or 0.0 for i in places])
    p_equivalence = holm([found[i].mean.p_equivalence or 0.0 for i in places])
    for i, p, e in zip(places, p_holm, p_equivalence, strict=True):
        word = verdict(found[i].mean.benefit, p, e)
        mean = replace(found[i].mean, p_holm=p, p_equivalence_holm=e, verdict=WORDS.get(word, word))
        found[i] = replace(found[i], mean=mean)
    return found
