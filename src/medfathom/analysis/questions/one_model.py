"""The price of one model for several data sets, against the best model for each.

Both sides are chosen by validation AUC and judged by test AUC: the one model by its mean over the data sets,
the best for each among the models that were trained on that data set alone. The price may be negative: one
data set may help another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from medfathom.analysis.effects import DIGITS, SETTING
from medfathom.analysis.questions.universality import (
    MeanPrice,
    Price,
    over_datasets,
    price_interval,
    with_validation,
)
from medfathom.analysis.results import JOINT, VALIDATION

CONFIGURATION = ["study", "architecture", "init", "unfreeze_depth", "setting"]
"""Columns whose values tell one configuration from another; a row for each data set and seed."""


@dataclass(frozen=True, kw_only=True)
class OneModel:
    """The price of one model for several data sets.

    Attributes:
        datasets: that it was trained on, with whose models it is compared.
        model: its architecture and what else tells it from other joint models; None: there is no answer.
        prices: by data set; `best` is the model for that one alone, `universal_auc` that of the one for all.
        modalities: the mean prices; that over all comes last.
        alone: data sets without a model of their own.
        reason: why there is no answer; empty where there is one.
    """

    datasets: list[str]
    model: str | None = None
    prices: list[Price] = field(default_factory=list)
    modalities: list[MeanPrice] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    reason: str = ""


def separate(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of models that were trained on one data set."""
    return rows if JOINT not in rows else rows[rows[JOINT].isna()]


def price_of_one_model(rows: pd.DataFrame) -> list[OneModel]:
    """One answer for each collection of data sets that models were trained on together; empty: none were.

    Args:
        rows: of results; column `JOINT` names the data sets that a model was trained on together.
    """
    if JOINT not in rows:
        return []
    known = with_validation(rows)
    return [
        _priced(own, separate(known), _without(rows, str(name)))
        if len(own := known[known[JOINT] == name])
        else _no_answer(rows, str(name))
        for name in sorted(rows[JOINT].dropna().unique())
    ]


def _without(rows: pd.DataFrame, name: str) -> list[str]:
    return sorted(rows.loc[rows[JOINT] == name, "dataset"].unique())


def _no_answer(rows: pd.DataFrame, name: str) -> OneModel:
    return OneModel(
        datasets=_without(rows, name),
        reason="the table has no validation AUC beside the test AUC; confirmed studies have both",
    )


def _priced(joint: pd.DataFrame, alone: pd.DataFrame, datasets: list[str]) -> OneModel:
    """`joint` are the rows of one collection of data sets, `alone` those of models of one data set."""
    without = [name for name in datasets if name not in set(alone["dataset"])]
    if len(without) == len(datasets):
        return OneModel(
            datasets=datasets,
            alone=without,
            reason="no model was trained on one of the data sets alone: run and confirm the studies of each "
            "(--set only=NAME), and analyse them together",
        )
    chosen = _best(joint)
    modality = joint.drop_duplicates("dataset").set_index("dataset")["modality"]
    prices = [
        _price(_best(alone[alone["dataset"] == name]), chosen[chosen["dataset"] == name], str(modality[name]))
        for name in datasets
        if name not in without
    ]
    return OneModel(
        datasets=datasets,
        model=_called(chosen),
        prices=prices,
        modalities=over_datasets(prices, ""),
        alone=without,
    )


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the configuration with the highest validation AUC: the mean over seeds, then data sets."""
    keys = [name for name in CONFIGURATION if name in rows]
    over_seeds = rows.groupby([*keys, "dataset"], dropna=False, observed=True)[VALIDATION].mean()
    means = over_seeds.groupby(level=list(range(len(keys))), dropna=False).mean().round(DIGITS)
    best = means.idxmax()
    wanted = dict(zip(keys, best if isinstance(best, tuple) else (best,), strict=True))
    same = pd.Series(True, index=rows.index)
    for name, value in wanted.items():
        same &= rows[name].isna() if pd.isna(value) else rows[name] == value
    return rows[same]


def _price(best: pd.DataFrame, joint: pd.DataFrame, modality: str) -> Price:
    aucs = float(best["auc"].mean()), float(joint["auc"].mean())
    return Price(
        modality=modality,
        dataset=str(joint["dataset"].iloc[0]),
        best=_called(best),
        best_auc=aucs[0],
        universal_auc=aucs[1],
        price=aucs[0] - aucs[1],
        ci95=price_interval(_alike(best), _alike(joint), aucs[0] - aucs[1]),
    )


def _alike(rows: pd.DataFrame) -> pd.DataFrame:
    """As if of one setting: seeds are paired, whatever else tells the two models apart."""
    return rows.assign(**dict.fromkeys(SETTING, ""))


def _called(rows: pd.DataFrame) -> str:
    """The architecture, and what else was chosen."""
    first = rows.iloc[0]
    setting = str(first.get("setting") or "")
    return f"{first['architecture']} ({setting})" if setting else str(first["architecture"])
