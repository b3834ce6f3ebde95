"""Rows of results, checked and completed: what is wrong is said with its row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pandas as pd

from medfathom.analysis.results import AUCS, NUMBERS, REQUIRED, TEXTS, TRIALS, Exclusion, numbers, place
from medfathom.errors import InputError, ModelError, ResultsError
from medfathom.models import catalog
from medfathom.models.facts import find_shipped

NOT_GIVEN = "not given"

UNFREEZE_WORDS = {
    "end-to-end": "5", "fine-tuning": "5", "full": "5", "all": "5",
    "linear-probing": "0", "linear probing": "0", "frozen": "0", "none": "0",
}  # fmt: skip
"""What papers call the two ends of the unfreeze depth."""


class Facts(Protocol):
    """What the catalog knows of an architecture."""

    @property
    def name(self) -> str:
        """timm's name."""

    @property
    def family(self) -> str:
        """timm's module."""

    @property
    def n_params(self) -> int:
        """Parameters."""

    @property
    def depth(self) -> int:
        """Weighted layers on the longest path."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""


Lookup = Callable[[str], Facts]


def prepare(frame: pd.DataFrame, lookup: Lookup | None = None) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Check rows and fill what the catalog knows.

    Args:
        frame: columns `architecture dataset modality auc`, and any of `COLUMNS`.
        lookup: architecture name -> facts; by default `medfathom.models.catalog.lookup`.

    Returns:
        Rows with all of `COLUMNS`, and what was left out.

    Raises:
        ResultsError: in one line naming the row, for values that cannot be used.
    """
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ResultsError(f"results: no column {missing[0]!r}; required: {', '.join(REQUIRED)}")
    if frame.empty:
        raise ResultsError("results: the table is empty; nothing to analyse")
    rows = frame.reset_index(drop=True)
    if "_row" not in rows:
        rows["_row"] = np.arange(len(rows))
    if "_source" not in rows:
        rows["_source"] = "results"
    exclusions = []
    rows = _texts(rows)
    rows, without = _aucs(rows)
    exclusions += without
    rows = _named(rows, lookup)
    rows, repeated = _duplicates(rows)
    exclusions += repeated
    _one_modality_per_dataset(rows)
    return rows, exclusions


def _texts(rows: pd.DataFrame) -> pd.DataFrame:
    for column in (*REQUIRED[:3], *TEXTS):
        if column not in rows:
            rows[column] = None
        text = rows[column].map(_as_text)
        if column in REQUIRED and text.isna().any():
            first = text.index[text.isna()][0]
            raise ResultsError(
                f"{rows.loc[first, '_source']}, row {rows.loc[first, '_row']}: no {column}; give it a value"
            )
        rows[column] = text
    rows["init"] = rows["init"].fillna(NOT_GIVEN)
    depth = rows["unfreeze_depth"].fillna(NOT_GIVEN)
    rows["unfreeze_depth"] = depth.map(lambda word: UNFREEZE_WORDS.get(word.lower(), word))
    return rows


def _as_text(value: Any) -> str | None:
    """Text of a label; 5 and 5.0 and "5" and "5.0" are one."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    text = str(value).strip()
    whole = re.fullmatch(r"(-?\d+)\.0*", text)
    return whole[1] if whole else text or None


def _aucs(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    for column in ("auc", *NUMBERS):
        rows[column] = numbers(rows, column) if column in rows else np.nan
    for column in AUCS:
        outside = (rows[column] < 0) | (rows[column] > 1)
        if outside.any():
            first = outside.index[outside][0]
            value = rows[column][first]
            hint = "; AUCs in per cent? give --percent" if 1 < value <= 100 else ""
            raise ResultsError(f"{place(rows, first)}: {column} = {value:g} is outside [0, 1]{hint}")
    for column in ("n_params", "depth", "macs", "n_trainable_params", "n_test", "n_train", "auc_se"):
        low = rows[column] < 0 if column in ("n_trainable_params", "auc_se") else rows[column] <= 0
        if low.any():
            first = low.index[low][0]
            raise ResultsError(f"{place(rows, first)}: {column} = {rows[column][first]:g} must be positive")
    exclusions = [
        Exclusion("no AUC", int(part["auc"].isna().sum()), str(source))
        for source, part in rows.groupby("_source")
        if part["auc"].isna().any()
    ]
    rows = rows[rows["auc"].notna()]
    if rows.empty:
        raise ResultsError("results: no row has an AUC; nothing to analyse")
    return rows, exclusions


def _duplicates(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Leave out repeats of a whole row; refuse rows that only an unknown setting tells apart."""
    content = [c for c in rows if not str(c).startswith("_")]
    repeats = rows.astype(dict.fromkeys(content, str)).duplicated(content)
    exclusions = [
        Exclusion("a repeat of an earlier row", int(repeats.loc[part.index].sum()), str(source))
        for source, part in rows.groupby("_source")
        if repeats.loc[part.index].any()
    ]
    rows = rows[~repeats]
    keys = ["architecture", "dataset", "init", "unfreeze_depth", "seed"]
    clash = rows.duplicated(keys, keep=False)
    if clash.any():
        first = rows[clash].iloc[0]
        same = rows[(rows[keys].fillna("") == first[keys].fillna("")).all(axis=1)]
        differ = [str(c) for c in content if c not in (*keys, "auc", *NUMBERS) and same[c].nunique() > 1]
        raise ResultsError(_twice(same, differ))
    return rows, exclusions


def _twice(same: pd.DataFrame, differ: list[str]) -> str:
    """Which rows say the same of one architecture, and what would tell them apart.

    Args:
        same: at least two rows.
        differ: columns, not of the contract, in which they differ.
    """
    one, two = same.iloc[0], same.iloc[1]
    of_studies = int((same["_source"].iloc[:2] == TRIALS).sum())
    if of_studies == 2:
        way = "analyse the studies one at a time"
    elif of_studies == 1:
        way = "leave the table's rows out with --where, or analyse study and table apart"
    elif differ:
        way = f"tell them apart with --where {differ[0]}={one[differ[0]]} or --map seed={differ[0]}"
    else:
        way = "tell them apart with a seed"
    spelled = f" ({one['_spelled']} and {two['_spelled']})" if one["_spelled"] != two["_spelled"] else ""
    return (
        f"{_origin(one)} and {_origin(two)}: {one['architecture']}{spelled} on {one['dataset']} twice "
        f"with the same init, unfreeze_depth and seed; {way}"
    )


def _origin(row: pd.Series[Any]) -> str:
    study = row.get("study")
    return f"study {study}" if isinstance(study, str) else f"{row['_source']}, row {row['_row']}"


def _one_modality_per_dataset(rows: pd.DataFrame) -> None:
    kinds = rows.groupby("dataset")["modality"].unique()
    mixed = kinds[kinds.map(len) > 1]
    if len(mixed):
        raise ResultsError(
            f"data set {mixed.index[0]!r} has several modalities: {', '.join(sorted(mixed.iloc[0]))}; "
            "a data set has one"
        )


def _named(rows: pd.DataFrame, lookup: Lookup | None) -> pd.DataFrame:
    """Each architecture under one name, and what rows do not say of it filled from the catalog.

    A name that the catalog does not know stays as it is where its rows say all that is needed.
    """
    rows = rows.assign(_spelled=rows["architecture"])
    lacking = rows[["n_params", "depth", "family"]].isna().any(axis=1)
    for name in rows["_spelled"].unique():
        index = rows.index[rows["_spelled"] == name]
        unknown = index[lacking[index]]
        try:
            facts = _facts(str(name), lookup or (catalog.lookup if len(unknown) else _shipped))
        except InputError as error:
            if unknown.empty:
                continue
            raise ResultsError(
                f"{place(rows, unknown[0])}: {error}; or give its n_params, depth and family in the table"
            ) from None
        rows.loc[index, "architecture"] = facts.name
        if len(unknown):
            for column in ("family", "n_params", "depth"):
                rows.loc[index, column] = rows.loc[index, column].fillna(getattr(facts, column))
            rows.loc[index, "macs"] = rows.loc[index, "macs"].fillna(float(facts.macs))
    _one_family_each(rows)
    return rows


def _one_family_each(rows: pd.DataFrame) -> None:
    several = rows.groupby("architecture")["family"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        own = rows[rows["architecture"] == name]
        odd = own.index[own["family"] != own["family"].iloc[0]][0]
        raise ResultsError(
            f"{place(rows, odd)}: architecture {name!r} has several families: "
            f"{', '.join(sorted(own['family'].unique()))}; it has one: correct the table, or leave the "
            "column out to have the catalog's"
        )


def _facts(name: str, lookup: Lookup) -> Facts:
    """The catalog's facts; a paper's ResNet-18 is timm's resnet18: signs and case may differ."""
    try:
        return lookup(name)
    except InputError:
        plain = re.sub(r"[^a-z0-9_]", "", name.lower())
        if plain == name:
            raise
        try:
            return lookup(plain)
        except InputError:
            pass
        raise


def _shipped(name: str) -> Facts:
    """What the catalog's own table knows: other networks would have to be built to be looked up."""
    entry = find_shipped(name)
    if entry is None:
        raise ModelError(f"{name!r} is not in the catalog's table")
    return entry.facts
