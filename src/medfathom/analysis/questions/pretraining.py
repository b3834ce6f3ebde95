"""What pretraining brings: paired within architecture, then over architectures."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import DIGITS, Floats, Ints, family_codes
from medfathom.analysis.results import NOT_GIVEN
from medfathom.analysis.size.estimate import NO_INTERVAL, Interval, interval_of
from medfathom.analysis.size.inference import Settings, mean_of
from medfathom.analysis.size.multiplicity import equivalence, holm, verdict

BASELINES = ("random", "imagenet-stats")
"""Inits that carry no learnt features."""

WITHOUT_FEATURES = (*BASELINES, NOT_GIVEN)
"""Inits that are not, or not known to be, pretrained."""

WORDS = {"increases": "helps", "decreases": "harms"}


@dataclass(frozen=True, kw_only=True)
class MeanBenefit:
    """AUC with pretrained weights minus AUC without, averaged.

    Attributes:
        benefit: the mean, in AUC.
        n: how many are averaged.
        unit: what they are: `seed`, `architecture`, `data set`, or `data set and architecture` (n counts
            data sets).
        ci95: 95 % interval of the mean.
        p_value: of "no benefit"; None for fewer than two, or where all are equal.
        p_equivalence: of "the benefit is at least a margin away from 0"; likewise.
        p_holm: `p_value` adjusted by Holm's method over the architectures of one setting, or over settings.
        p_equivalence_holm: `p_equivalence`, likewise.
        verdict: helps, harms, negligible or inconclusive, from the adjusted ones.
    """

    benefit: float
    n: int
    unit: str
    ci95: Interval = NO_INTERVAL
    p_value: float | None = None
    p_equivalence: float | None = None
    p_holm: float | None = None
    p_equivalence_holm: float | None = None
    verdict: str = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Benefit:
    """What pretraining brings in one setting.

    Attributes:
        level: `architecture` (one of them; the interval is over seeds) or `dataset` (all of them in it; the
            interval is over architectures, families random).
        modality: of the data set.
        dataset: its name.
        unfreeze_depth: 0 to 5, or another word of the table's.
        init: with learnt features.
        baseline: the init without, that it is compared with.
        architecture: None for all of them.
        mean: the benefit.
    """

    level: str
    modality: str
    dataset: str
    unfreeze_depth: str
    init: str
    baseline: str
    architecture: str | None
    mean: MeanBenefit = field(metadata=FLAT)


def pretraining_benefit(rows: pd.DataFrame, settings: Settings, margin: float) -> list[Benefit]:
    """AUC with pretrained weights minus AUC without, paired within architecture, data set and unfreeze depth.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.

    Returns:
        For each (data set, unfreeze depth, init, baseline), one for each architecture and one over them.
    """
    found = []
    for (modality, dataset, depth, init, baseline), pairs in paired(rows, BASELINES):
        means = np.array([float(np.mean(differences)) for differences in pairs.values()])
        codes = family_codes(rows, list(pairs))
        whole = over_architectures(means, codes, settings, margin)
        each = [("architecture", name, mean_difference(d, margin, "seed")) for name, d in pairs.items()]
        found += [
            Benefit(
                level=level,
                modality=modality,
                dataset=dataset,
                unfreeze_depth=depth,
                init=init,
                baseline=baseline,
                architecture=name,
                mean=mean,
            )
            for level, name, mean in [*each, ("dataset", None, whole)]
        ]
    asked = [
        (b.dataset, b.unfreeze_depth, b.init, b.baseline) if b.level == "architecture" else () for b in found
    ]
    answers = judged([b.mean for b in found], together=asked)
    return [replace(b, mean=mean) for b, mean in zip(found, answers, strict=True)]


def judged(
    means: Sequence[MeanBenefit],
    words: Mapping[str, str] = WORDS,
    together: Sequence[Hashable] | None = None,
) -> list[MeanBenefit]:
    """Adjusted by Holm's method over what is asked at once; what has no p-value stays inconclusive.

    Args:
        means: not adjusted.
        words: verdict on a slope -> the word for it here.
        together: for each mean a name of what it is adjusted with; all of them together where it is None.
    """
    found = list(means)
    families: dict[Hashable, list[int]] = {}
    for i, mean in enumerate(found):
        if mean.p_value is not None:
            families.setdefault(together[i] if together else None, []).append(i)
    for places in families.values():
        p_holm = holm([found[i].p_value or 0.0 for i in places])
        p_equivalence = holm([found[i].p_equivalence or 0.0 for i in places])
        for i, p, q in zip(places, p_holm, p_equivalence, strict=True):
            word = verdict(found[i].benefit, p, q)
            found[i] = replace(found[i], p_holm=p, p_equivalence_holm=q, verdict=words.get(word, word))
    return found


def paired(
    rows: pd.DataFrame, baselines: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], dict[str, Floats]]]:
    """Each init with learnt features against each baseline, paired.

    Yields:
        (modality, data set, depth, init, baseline), and architecture -> differences of AUC over its seeds.
    """
    for key, part in rows.groupby(["modality", "dataset", "unfreeze_depth"], observed=True):
        names, inits, table, seed, setting = _by_seed(part)
        for baseline in (i for i in baselines if i in inits):
            for init in (i for i in inits if i not in (*WITHOUT_FEATURES, baseline)):
                sides = _of_shared_settings(
                    table[:, :, inits.index(init)], table[:, :, inits.index(baseline)], setting
                )
                differences = {
                    name: _differences(with_, without, seed, setting)
                    for name, with_, without in zip(names, *sides, strict=True)
                    if np.isfinite(with_).any() and np.isfinite(without).any()
                }
                if differences:
                    yield (*map(str, key), init, baseline), differences


def _of_shared_settings(with_: Floats, without: Floats, setting: Ints) -> tuple[Floats, Floats]:
    """AUCs (architecture, seed), NaN where the other side has nothing of the architecture in that setting.

    Else results of a setting that only one side has, such as a transfer strategy that means nothing for
    random weights, would be held against those of other settings.
    """
    shared = np.zeros(with_.shape, dtype=bool)
    for code in np.unique(setting):
        own = setting == code
        both = np.isfinite(with_[:, own]).any(axis=1) & np.isfinite(without[:, own]).any(axis=1)
        shared |= np.outer(both, own)
    return np.where(shared, with_, np.nan), np.where(shared, without, np.nan)


def _by_seed(part: pd.DataFrame) -> tuple[list[str], list[str], Floats, NDArray[np.str_], Ints]:
    """Architectures, inits, AUCs (architecture, run, init; NaN for none), each run's seed and setting.

    A run is a seed in a setting; its seed is empty where none is named, its setting is a number.
    """
    name, names = pd.factorize(part["architecture"], sort=True)
    init, inits = pd.factorize(part["init"], sort=True)
    seed, seeds = pd.factorize(
        part["setting"] + "|" + part["seed"].astype(object).fillna("").astype(str), sort=True
    )
    table = np.full((len(names), len(seeds), len(inits)), np.nan)
    table[name, seed, init] = part["auc"].to_numpy(float)
    parts = pd.Series(seeds).str.rpartition("|")
    setting = pd.factorize(parts[0])[0]
    return list(map(str, names)), list(map(str, inits)), table, parts[2].to_numpy(str), setting


def _differences(with_: Floats, without: Floats, seed: NDArray[np.str_], setting: Ints) -> Floats:
    """By seed where the same seeds are on both sides, else the difference of the means."""
    runs = pd.DataFrame({"seed": seed, "setting": setting, "with": with_, "without": without})
    if (np.isfinite(with_) == np.isfinite(without)).all():
        paired_runs = runs.dropna()
        return over_seeds(paired_runs.assign(difference=paired_runs["with"] - paired_runs["without"]))
    means = runs.groupby("setting")[["with", "without"]].mean()
    return np.array([(means["with"] - means["without"]).mean()]).round(DIGITS)


def over_seeds(runs: pd.DataFrame) -> Floats:
    """A difference for each seed, mean over settings; the mean alone where a seed is not in all settings.

    Settings are no repeats: how much they differ says nothing of another training.

    Args:
        runs: columns `difference`, `seed` (empty: not named) and `setting`.
    """
    table = runs.pivot_table(index="seed", columns="setting", values="difference")
    if table.isna().any(axis=None) or "" in table.index:
        table = table.mean().to_frame().T
    result: Floats = table.mean(axis=1).to_numpy(float).round(DIGITS)
    return result


def mean_difference(differences: Floats, margin: float, unit: str) -> MeanBenefit:
    """Student's t over seeds or data sets; no interval for fewer than two, nor where all are equal."""
    differences = differences.round(DIGITS)
    n, mean = len(differences), float(np.mean(differences))
    if n < 2 or np.ptp(differences) == 0:
        return MeanBenefit(benefit=mean, n=n, unit=unit)
    error = float(np.std(differences, ddof=1) / np.sqrt(n))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return MeanBenefit(
        benefit=mean,
        n=n,
        unit=unit,
        ci95=(mean - reach, mean + reach),
        p_value=float(2 * stats.t.sf(abs(mean) / error, n - 1)),
        p_equivalence=float(stats.t.sf((margin - abs(mean)) / error, n - 1)),
    )


def over_architectures(values: Floats, families: Ints, settings: Settings, margin: float = 0) -> MeanBenefit:
    """Mean over architectures, families random; no interval for fewer than two, nor where all are equal."""
    values = values.round(DIGITS)
    n, mean = len(values), float(values.mean())
    if n < 2 or np.ptp(values) == 0:
        return MeanBenefit(benefit=mean, n=n, unit="architecture")
    found = mean_of(values, families, settings)
    return MeanBenefit(
        benefit=mean,
        n=n,
        unit="architecture",
        ci95=interval_of(found, 0.95),
        p_value=found.p_value(),
        p_equivalence=equivalence(found, margin),
    )
