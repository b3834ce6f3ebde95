"""What pretraining brings on average over data sets, and whether it goes with something known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import DIGITS, Floats, Ints, family_codes, two_way
from medfathom.analysis.questions.pretraining import WORDS, Benefit, MeanBenefit
from medfathom.analysis.size.estimate import NO_INTERVAL, Estimate, Interval, interval_of, slope_over_datasets
from medfathom.analysis.size.inference import OverDatasets, Settings, mean_of
from medfathom.analysis.size.multiplicity import equivalence, holm, verdict


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
            f"domain shift is known for {measured.shape[1]} data sets, but for no architecture on all of "
            "them; measure the same architecture on each with `medfathom data shift`"
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
        p_equivalence: of "the benefit is at least a margin away from 0".
        p_holm: `p_value` adjusted by Holm's method over inits, baselines and unfreeze depths.
        p_equivalence_holm: `p_equivalence`, likewise.
        verdict: helps, harms, negligible or inconclusive, from the adjusted ones.
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
    p_equivalence: float | None
    p_holm: float | None = None
    p_equivalence_holm: float | None = None
    verdict: str = "inconclusive"
    tau: float
    i2: float
    prediction95: Interval
    against: dict[str, Trend]


def benefit_over_datasets(
    benefits: Sequence[Benefit],
    rows: pd.DataFrame,
    covariates: Mapping[str, Covariate],
    settings: Settings,
    margin: float = 0.0,
) -> list[BenefitOverDatasets]:
    """The benefit over architectures and data sets, and its slope on what is known of the data sets.

    Args:
        benefits: from `pretraining_benefit`.
        rows: those that the benefits came from; families are read off them.
        covariates: name -> by data set.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.

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
        found.append(_over_datasets(tuple(map(str, key)), crossed, codes, against, settings, margin))
    return _with_words(found)


def _with_words(found: list[BenefitOverDatasets]) -> list[BenefitOverDatasets]:
    """Adjusted over all of them; what has no p-value stays inconclusive."""
    tested = [one for one in found if one.p_value is not None]
    p_holm = holm([one.p_value or 0.0 for one in tested])
    p_equivalence = holm([one.p_equivalence or 0.0 for one in tested])
    for one, p, e in zip(tested, p_holm, p_equivalence, strict=True):
        word = verdict(one.benefit, p, e)
        judged = replace(one, p_holm=p, p_equivalence_holm=e, verdict=WORDS.get(word, word))
        found[found.index(one)] = judged
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
    key: tuple[str, ...],
    crossed: _Crossed,
    families: Ints,
    against: dict[str, Trend],
    settings: Settings,
    margin: float,
) -> BenefitOverDatasets:
    """The mean and its interval; architectures (families random) and data sets are both samples.

    The same architectures come back in every data set, so what is peculiar to them does not average out
    over data sets. Both parts hold the noise that they share: nothing is taken off for it, so that the
    interval is never narrower than that over the data sets alone.
    """
    count, variance = len(crossed.by_dataset), float(crossed.by_dataset.var())
    tau2 = max(0.0, variance - crossed.noise)
    mean, another = _mean_of_both(crossed, families, settings, margin, tau2)
    prediction95 = NO_INTERVAL if another is None else interval_of(another, 0.95)
    init, baseline, unfreeze_depth = key
    return BenefitOverDatasets(
        init=init,
        baseline=baseline,
        unfreeze_depth=unfreeze_depth,
        n_datasets=count,
        n_architectures=len(crossed.by_architecture),
        benefit=mean.benefit,
        ci95=mean.ci95,
        p_value=mean.p_value,
        p_equivalence=mean.p_equivalence,
        tau=float(np.sqrt(tau2)),
        i2=tau2 / variance if variance > 0 else 0.0,
        prediction95=prediction95,
        against=against,
    )


def _mean_of_both(
    crossed: _Crossed, families: Ints, settings: Settings, margin: float, tau2: float = 0.0
) -> tuple[MeanBenefit, OverDatasets | None]:
    """The mean, and what holds in one more data set; no interval where all are equal."""
    values: Floats = np.asarray(crossed.by_architecture, dtype=float)
    count, variance = len(crossed.by_dataset), float(crossed.by_dataset.var())
    if np.ptp(values) == 0 and variance == 0:
        return MeanBenefit(benefit=float(values.mean()), n=count, unit=BOTH), None
    within = mean_of(values, families, settings)
    extra = variance * float(crossed.weight @ crossed.weight)
    whole, another = (OverDatasets(within, ((v, count - 1),)) for v in (extra, extra + tau2))
    mean = MeanBenefit(
        benefit=whole.estimate,
        n=count,
        unit=BOTH,
        ci95=interval_of(whole, 0.95),
        p_value=whole.p_value(),
        p_equivalence=equivalence(whole, margin),
    )
    return mean, another


BOTH = "data set and architecture"
"""The unit of a mean over both."""


def over_both(cells: pd.DataFrame, rows: pd.DataFrame, settings: Settings, margin: float) -> MeanBenefit:
    """Mean over architectures (families random) and data sets.

    Args:
        cells: columns `architecture`, `dataset`, `benefit`; one row for each pair that was run.
        rows: families are read off them.
        settings: how much is simulated.
        margin: the smallest benefit that matters, in AUC.
    """
    crossed = _crossed(cells)
    codes = family_codes(rows, list(crossed.by_architecture.index))
    return _mean_of_both(crossed, codes, settings, margin)[0]


def _trend(by_dataset: pd.Series[float], covariate: Covariate) -> Trend:
    """Least squares over data sets: they are the units here."""
    x: Floats = np.asarray(covariate.values.reindex(by_dataset.index), dtype=float)
    y: Floats = np.asarray(by_dataset, dtype=float)
    known = np.isfinite(x)
    n = int(known.sum())
    if n < 4 or np.ptp(x[known]) == 0:
        few = f"known for {n} data sets; at least 4 different values are needed"
        return Trend(Estimate(), n, covariate.measured_by, covariate.reason or few)
    return Trend(slope_over_datasets(x[known], y[known]), n, covariate.measured_by, covariate.reason)
