"""What pretraining brings: paired within architecture, then over architectures, then over data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import DIGITS, Floats, Ints, family_codes, two_way
from medfathom.analysis.size.estimate import NO_INTERVAL, Estimate, Interval, interval_of, slope_over_datasets
from medfathom.analysis.size.inference import OverDatasets, Settings, mean_of
from medfathom.analysis.size.multiplicity import equivalence, holm, verdict

BASELINES = ("random", "imagenet-stats")
"""Inits that carry no learnt features."""

WORDS = {"increases": "helps", "decreases": "harms"}


@dataclass(frozen=True, kw_only=True)
class MeanBenefit:
    """AUC with pretrained weights less AUC without, averaged.

    Attributes:
        benefit: the mean, in AUC.
        n: how many are averaged.
        unit: what they are, `seed` or `architecture`.
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
    """AUC with pretrained weights less AUC without, paired within architecture, data set and unfreeze depth.

    Args:
        rows: of results.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.

    Returns:
        For each (data set, unfreeze depth, init, baseline), one for each architecture and one over them.
    """
    found = []
    for (modality, dataset, depth, init, baseline), pairs in _pairs(rows):
        means = np.array([float(np.mean(differences)) for differences in pairs.values()])
        codes = family_codes(rows, list(pairs))
        whole = over_architectures(means, codes, settings, margin)
        each = [("architecture", name, _over_seeds(d, margin)) for name, d in pairs.items()]
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
    return _judged(found)


def _judged(benefits: list[Benefit]) -> list[Benefit]:
    """Adjust for all that is asked at once: the networks of one setting, or all data sets and settings."""
    together: dict[tuple[str, ...], list[int]] = {}
    for i, b in enumerate(benefits):
        if b.mean.p_value is not None:
            setting = (b.dataset, b.unfreeze_depth, b.init, b.baseline) if b.level == "architecture" else ()
            together.setdefault(setting, []).append(i)
    judged = list(benefits)
    for places in together.values():
        means = [benefits[i].mean for i in places]
        p_holm = holm([float(mean.p_value or 0.0) for mean in means])
        p_equivalence = holm([float(mean.p_equivalence or 0.0) for mean in means])
        for i, p, q in zip(places, p_holm, p_equivalence, strict=True):
            word = verdict(benefits[i].mean.benefit, p, q)
            mean = replace(benefits[i].mean, p_holm=p, p_equivalence_holm=q, verdict=WORDS.get(word, word))
            judged[i] = replace(benefits[i], mean=mean)
    return judged


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
    seed, seeds = pd.factorize(
        part["setting"] + "|" + part["seed"].astype(object).fillna("").astype(str), sort=True
    )
    table = np.full((len(names), len(seeds), len(inits)), np.nan)
    table[name, seed, init] = part["auc"].to_numpy(float)
    return list(map(str, names)), list(map(str, inits)), table, np.asarray(seeds != "|")


def _differences(with_: Floats, without: Floats, seeded: NDArray[np.bool_]) -> Floats:
    """By seed where the same seeds are on both sides, else the difference of the means."""
    one, other = np.isfinite(with_), np.isfinite(without)
    if (one == other).all() and seeded[one].all():
        result: Floats = (with_ - without)[one].round(DIGITS)
        return result
    return np.array([with_[one].mean() - without[other].mean()]).round(DIGITS)


def _over_seeds(differences: Floats, margin: float) -> MeanBenefit:
    """Student's t over seeds; no interval for fewer than two, nor where all are equal."""
    n, mean = len(differences), float(np.mean(differences))
    if n < 2 or np.ptp(differences) == 0:
        return MeanBenefit(benefit=mean, n=n, unit="seed")
    error = float(np.std(differences, ddof=1) / np.sqrt(n))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return MeanBenefit(
        benefit=mean,
        n=n,
        unit="seed",
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


def covariates_of(rows: pd.DataFrame) -> dict[str, Covariate]:
    """What is known of the rows' data sets: training set size (log10 of the images) and domain shift."""
    sizes = rows.groupby("dataset", observed=True)["n_train"].median()
    return {"log10_n_train": Covariate(np.log10(sizes)), "domain_shift": _domain_shift(rows)}


def _domain_shift(rows: pd.DataFrame) -> Covariate:
    """Data sets as the same architectures see them: some networks see every shift larger than others do."""
    measured = rows[rows["domain_shift"].notna()].pivot_table(
        index="architecture", columns="dataset", values="domain_shift", aggfunc="median", observed=True
    )
    everywhere = measured.dropna()
    reason = ""
    if everywhere.empty and not measured.empty:
        reason = (
            f"no architecture's domain shift is known for all of the {measured.shape[1]} data sets with one; "
            "measure the same with `medfathom data shift`"
        )
    return Covariate(everywhere.mean(), reason, list(map(str, everywhere.index)))


@dataclass(frozen=True)
class Trend:
    """The slope of the data sets' benefits on something known of them.

    Attributes:
        estimate: of the slope.
        n_datasets: for which it is known.
        measured_by: the architectures that it was measured with, if any.
        reason: why there is no slope, where there is none.
    """

    estimate: Estimate = field(metadata=FLAT)
    n_datasets: int
    measured_by: list[str]
    reason: str


@dataclass(frozen=True, kw_only=True)
class BenefitOverDatasets:
    """What pretraining brings on average over architectures and data sets.

    Attributes:
        init: with learnt features.
        baseline: the init without, that it is compared with.
        unfreeze_depth: 0 to 5, or another word of the table's.
        n_datasets: seen, at least 3.
        n_architectures: seen, at least 2.
        benefit: the mean, in AUC.
        ci95: its 95 % interval; architectures and data sets are both samples.
        p_value: of "no benefit on average".
        tau: standard deviation of the data sets' true benefits.
        i2: share of their variance that is not noise, 0 to 1.
        prediction95: 95 % interval for the benefit in another data set.
        against: covariate -> the benefit's slope on it.
    """

    init: str
    baseline: str
    unfreeze_depth: str
    n_datasets: int
    n_architectures: int
    benefit: float
    ci95: Interval
    p_value: float | None
    tau: float
    i2: float
    prediction95: Interval
    against: dict[str, Trend]


def benefit_over_datasets(
    benefits: Sequence[Benefit],
    rows: pd.DataFrame,
    covariates: Mapping[str, Covariate],
    settings: Settings,
) -> list[BenefitOverDatasets]:
    """The benefit over architectures and data sets, and its slope on what is known of the data sets.

    Args:
        benefits: from `pretraining_benefit`.
        rows: those that the benefits came from; families are read off them.
        covariates: name -> by data set.
        settings: how much is simulated.

    Returns:
        One for each (init, baseline, unfreeze depth) seen in three data sets and two architectures.
    """
    keys = ["init", "baseline", "unfreeze_depth"]
    columns = [*keys, "architecture", "dataset", "benefit"]
    each = [
        (b.init, b.baseline, b.unfreeze_depth, b.architecture, b.dataset, b.mean.benefit)
        for b in benefits
        if b.architecture is not None
    ]
    found = []
    for key, part in pd.DataFrame(each, columns=columns).groupby(keys):
        if part["dataset"].nunique() < 3 or part["architecture"].nunique() < 2:
            continue
        crossed = _crossed(part)
        codes = family_codes(rows, list(crossed.by_architecture.index))
        against = {name: _trend(crossed.by_dataset, known) for name, known in covariates.items()}
        found.append(_over_datasets(tuple(map(str, key)), crossed, codes, against, settings))
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


def _over_datasets(
    key: tuple[str, ...], crossed: _Crossed, families: Ints, against: dict[str, Trend], settings: Settings
) -> BenefitOverDatasets:
    """The mean and its interval; architectures (families random) and data sets are both samples.

    The same architectures come back in every data set, so what is peculiar to them does not average out
    over data sets. Both parts hold the noise that they share: nothing is taken off for it, so that the
    interval is never narrower than that over the data sets alone.
    """
    values: Floats = np.asarray(crossed.by_architecture, dtype=float)
    count, variance = len(crossed.by_dataset), float(crossed.by_dataset.var())
    tau2 = max(0.0, variance - crossed.noise)
    benefit, p_value = float(values.mean()), None
    ci95 = prediction95 = NO_INTERVAL
    if np.ptp(values) > 0 or variance > 0:
        within = mean_of(values, families, settings)
        extra = variance * float(crossed.weight @ crossed.weight)
        whole, another = (OverDatasets(within, ((v, count - 1),)) for v in (extra, extra + tau2))
        benefit, p_value = whole.estimate, whole.p_value()
        ci95, prediction95 = interval_of(whole, 0.95), interval_of(another, 0.95)
    init, baseline, unfreeze_depth = key
    return BenefitOverDatasets(
        init=init,
        baseline=baseline,
        unfreeze_depth=unfreeze_depth,
        n_datasets=count,
        n_architectures=len(values),
        benefit=benefit,
        ci95=ci95,
        p_value=p_value,
        tau=float(np.sqrt(tau2)),
        i2=tau2 / variance if variance > 0 else 0.0,
        prediction95=prediction95,
        against=against,
    )


def _trend(by_dataset: pd.Series[float], covariate: Covariate) -> Trend:
    """Least squares over data sets: they are the units here."""
    x: Floats = np.asarray(covariate.values.reindex(by_dataset.index), dtype=float)
    y: Floats = np.asarray(by_dataset, dtype=float)
    known = np.isfinite(x)
    n = int(known.sum())
    if n < 4 or np.ptp(x[known]) == 0:
        few = f"known for {n} data sets; at least 4 that differ are needed"
        return Trend(Estimate(), n, covariate.measured_by, covariate.reason or few)
    return Trend(slope_over_datasets(x[known], y[known]), n, covariate.measured_by, covariate.reason)
