"""The price of universality: one architecture for all data sets, against the best one for each.

Architectures are chosen as one would choose them, by validation AUC, and the choices are judged by test AUC:
noise in the test AUC then flatters neither side, and the price may be negative. (`ranking.Regret` answers the
same where no validation AUC is known, but takes the best by the very AUC that it is judged by.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.effects import DIGITS, SETTING, Floats
from medfathom.analysis.questions.ranking import table_of
from medfathom.analysis.results import VALIDATION, numbers
from medfathom.analysis.size.estimate import NO_INTERVAL, Interval
from medfathom.metrics.intervals import Z95, reach_over_seeds

"""Column of the AUC that choices are made by."""

FEWEST_DATASETS = 3
"""From which on an interval speaks for data sets like these."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one architecture for all costs on one data set.

    Attributes:
        modality: of the data set.
        dataset: its name.
        best: the architecture of its highest validation AUC.
        best_auc: that one's test AUC.
        universal_auc: the test AUC of the architecture for all.
        price: `best_auc` minus `universal_auc`.
        ci95: over seeds and test images, were both drawn anew. Of images as if the two networks were judged
            on different ones: too wide rather than too narrow. None where the two are one network.
    """

    modality: str
    dataset: str
    best: str
    best_auc: float
    universal_auc: float
    price: float
    ci95: Interval = NO_INTERVAL


@dataclass(frozen=True, kw_only=True)
class MeanPrice:
    """The mean price over the data sets of a modality, or of all.

    Attributes:
        modality: `all` for those of all modalities.
        n_datasets: in it.
        price: each data set weighs the same.
        ci95: over data sets where there are three that differ, else over seeds and test images.
        speaks_for: what the interval speaks for: `data sets like these` or `these data sets`; empty for none.
    """

    modality: str
    n_datasets: int
    price: float
    ci95: Interval
    speaks_for: str


@dataclass(frozen=True, kw_only=True)
class Universality:
    """The price of one architecture for all data sets.

    Attributes:
        universal: the architecture of the highest mean validation AUC; None where there is no answer.
        n_architectures: seen in every data set.
        datasets: by data set.
        modalities: the mean prices; that over all comes last.
        reason: why there is no answer; empty where there is one.
    """

    universal: str | None = None
    n_architectures: int = 0
    datasets: list[Price] = field(default_factory=list)
    modalities: list[MeanPrice] = field(default_factory=list)
    reason: str = ""


def price_of_universality(rows: pd.DataFrame) -> Universality:
    """What one architecture for all data sets costs, chosen by validation AUC and judged by test AUC.

    Args:
        rows: of results; those without a validation AUC (`val_auc`) are left out.
    """
    known = with_validation(rows)
    if known.empty:
        return Universality(
            reason="the table has no validation AUC beside the test AUC; confirmed studies have both"
        )
    validation = table_of(known.assign(auc=known[VALIDATION]))
    n, k = validation.shape
    if n < 2 or k < 2:
        return Universality(
            n_architectures=n,
            reason=f"{n} architectures are in all of {k} data sets; at least 2 in 2 are needed",
        )
    universal = str(validation.mean(axis=1).round(DIGITS).idxmax())
    test = table_of(known)
    modality = known.drop_duplicates("dataset").set_index("dataset")["modality"]
    best = {str(dataset): str(name) for dataset, name in validation.round(DIGITS).idxmax().items()}
    prices = [
        _price(known, test, (own, universal), dataset, str(modality[dataset]))
        for dataset, own in best.items()
    ]
    return Universality(
        universal=universal, n_architectures=n, datasets=prices, modalities=over_datasets(prices, universal)
    )


def with_validation(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a validation AUC."""
    if VALIDATION not in rows:
        return rows.iloc[:0]
    values = numbers(rows, VALIDATION)
    return rows.assign(**{VALIDATION: values})[values.notna()]


def _price(
    rows: pd.DataFrame, test: pd.DataFrame, names: tuple[str, str], dataset: str, modality: str
) -> Price:
    best, universal = names
    column: pd.Series[float] = test[dataset]
    aucs = float(column[best]), float(column[universal])
    own = rows[rows["dataset"] == dataset]
    return Price(
        modality=modality,
        dataset=dataset,
        best=best,
        best_auc=aucs[0],
        universal_auc=aucs[1],
        price=aucs[0] - aucs[1],
        ci95=NO_INTERVAL if best == universal else _interval(own, best, universal, aucs[0] - aucs[1]),
    )


def _interval(rows: pd.DataFrame, best: str, universal: str, price: float) -> Interval:
    return price_interval(rows[rows["architecture"] == best], rows[rows["architecture"] == universal], price)


def price_interval(best: pd.DataFrame, other: pd.DataFrame, price: float) -> Interval:
    """The interval of the difference of two networks' test AUC on one data set, over seeds and images.

    Seeds are paired where both have them; half-widths add as squares, see `reach_over_seeds`.

    Args:
        best: rows of one, a row for each seed and setting.
        other: of the other.
        price: the difference.
    """
    sides = [best, other]
    aucs = [side.pivot_table(index="seed", columns=SETTING, values="auc", observed=True) for side in sides]
    differences: Floats = (aucs[0] - aucs[1]).dropna(how="all").mean(axis=1).to_numpy(float)
    seeds = 0.0
    if len(differences) > 1:
        seeds = reach_over_seeds(float(differences.std(ddof=1)), len(differences))
    errors: Floats = np.array([side["auc_se"].mean() for side in sides], dtype=float)
    sampling = Z95 * float(np.sqrt(np.sum(errors**2))) if np.isfinite(errors).all() else 0.0
    reach = float(np.hypot(seeds, sampling))
    return (price - reach, price + reach) if reach > 0 else NO_INTERVAL


def over_datasets(prices: Sequence[Price], universal: str) -> list[MeanPrice]:
    """The mean prices by modality, and over all; where the best is `universal` nothing is uncertain."""
    kinds = sorted({each.modality for each in prices})
    scopes = [(kind, [each for each in prices if each.modality == kind]) for kind in kinds]
    return [_mean(name, part, universal) for name, part in [*scopes, ("all", list(prices))]]


def _mean(modality: str, prices: Sequence[Price], universal: str) -> MeanPrice:
    values: Floats = np.array([each.price for each in prices]).round(DIGITS)
    count, mean = len(values), float(values.mean())
    reach, speaks_for = 0.0, ""
    if count >= FEWEST_DATASETS and np.ptp(values) > 0:
        reach = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
        speaks_for = "data sets like these"
    else:
        others = [each for each in prices if each.best != universal]
        reaches = [each.ci95[1] - each.price for each in others if each.ci95[1] is not None]
        if reaches and len(reaches) == len(others):
            reach, speaks_for = float(np.sqrt(np.sum(np.square(reaches)))) / count, "these data sets"
    return MeanPrice(
        modality=modality,
        n_datasets=count,
        price=mean,
        ci95=(mean - reach, mean + reach) if reach > 0 else NO_INTERVAL,
        speaks_for=speaks_for,
    )
