"""Rows of results, checked and completed: what is wrong is said with its row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pandas as pd

from medfathom.analysis.results import AUCS, NUMBERS, REQUIRED, TEXTS, Exclusion, numbers, place
from medfathom.errors import InputError, ResultsError

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
    rows, repeated = _duplicates(rows)
    exclusions += repeated
    _one_modality_per_dataset(rows)
    rows = _filled(rows, lookup)
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
    """Text of a label; 5 and 5.0 and "5" are one."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


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
        differ = [c for c in content if c not in (*keys, "auc", *NUMBERS) and same[c].nunique() > 1]
        way = (
            f"--where {differ[0]}={same[differ[0]].iloc[0]} or --map seed={differ[0]}" if differ else "a seed"
        )
        raise ResultsError(
            f"{first['_source']}, rows {first['_row']} and {same['_row'].iloc[1]}: "
            f"{first['architecture']} on "
            f"{first['dataset']} twice with the same init, unfreeze_depth and seed; tell them apart "
            f"with {way}"
        )
    return rows, exclusions


def _one_modality_per_dataset(rows: pd.DataFrame) -> None:
    kinds = rows.groupby("dataset")["modality"].unique()
    mixed = kinds[kinds.map(len) > 1]
    if len(mixed):
        raise ResultsError(
            f"data set {mixed.index[0]!r} has several modalities: {', '.join(sorted(mixed.iloc[0]))}; "
            "a data set has one"
        )


def _filled(rows: pd.DataFrame, lookup: Lookup | None) -> pd.DataFrame:
    lacking = rows[["n_params", "depth", "family"]].isna().any(axis=1)
    for name in rows.loc[lacking, "architecture"].unique():
        index = rows.index[rows["architecture"] == name]
        try:
            facts = _facts(str(name), lookup or _catalog())
        except InputError as error:
            first = rows.index[lacking & (rows["architecture"] == name)][0]
            raise ResultsError(
                f"{place(rows, first)}: {error}; or give its n_params, depth and family in the table"
            ) from None
        rows.loc[index, "architecture"] = facts.name
        for column in ("family", "n_params", "depth"):
            rows.loc[index, column] = rows.loc[index, column].fillna(getattr(facts, column))
        rows.loc[index, "macs"] = rows.loc[index, "macs"].fillna(float(facts.macs))
    several = rows.groupby("architecture")["family"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        families = sorted(rows.loc[rows["architecture"] == name, "family"].unique())
        raise ResultsError(f"architecture {name!r} has several families: {', '.join(families)}; it has one")
    return rows


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


def _catalog() -> Lookup:
    from medfathom.models import catalog  # noqa: PLC0415

    return catalog.lookup
