"""Rows of results, checked and completed: what is wrong is said with its row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.doubtful import (
    refuse_alike,
    refuse_mean_seeds,
    refuse_means,
    refuse_other_numbers,
    refuse_other_units,
    refuse_thousands,
)
from medfathom.analysis.effects import uneven_seeds
from medfathom.analysis.facts import Lookup, facts_at_hand, facts_of, sizes_agree
from medfathom.analysis.names import TORCHVISION
from medfathom.analysis.results import (
    AUCS,
    NOT_GIVEN,
    NUMBERS,
    REQUIRED,
    TEXTS,
    TRIALS,
    Exclusion,
    numbers,
    place,
)
from medfathom.errors import InputError, ResultsError
from medfathom.models.facts import find_shipped
from medfathom.models.imagenet import imagenet_top1
from medfathom.models.years import ATTENTION, YEARS

UNFREEZE_WORDS = {
    "end-to-end": "5", "fine-tuning": "5", "full": "5", "all": "5",
    "full-fine-tuning": "5", "full-finetuning": "5",
    "finetuning": "5", "fine-tuned": "5", "finetune": "5", "ft": "5", "e2e": "5", "full-network": "5",
    "linear-probing": "0", "linear-probe": "0", "linear": "0", "lp": "0", "frozen": "0", "none": "0",
    "frozen-backbone": "0", "feature-extraction": "0", "head-only": "0",
}  # fmt: skip
"""What papers call the two ends of the unfreeze depth."""

INIT_WORDS = {
    "random": "random", "scratch": "random", "from-scratch": "random", "trained-from-scratch": "random",
    "random-init": "random", "random-weights": "random", "random-initialization": "random",
    "random-initialisation": "random", "none": "random", "no": "random", "false": "random",
    "no-pretraining": "random", "not-pretrained": "random", "untrained": "random",
    "yes": "pretrained", "true": "pretrained", "pretrained": "pretrained",
}  # fmt: skip
"""What papers call weights without and with learnt features."""


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
    refuse_means(rows)
    refuse_mean_seeds(rows)
    refuse_other_numbers(rows)
    refuse_alike(rows, ("modality", "dataset", "init", "unfreeze_depth", "setting"))
    rows, without = _aucs(rows)
    exclusions += without
    rows = _named(rows, lookup)
    refuse_alike(rows, ("architecture", "family"))
    sizes_agree(rows, lookup)
    rows = _known_of_weights(rows)
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
    rows["init"] = rows["init"].fillna(NOT_GIVEN).map(lambda word: _called(word, INIT_WORDS))
    rows["setting"] = rows["setting"].fillna("")
    depth = rows["unfreeze_depth"].fillna(NOT_GIVEN)
    rows["unfreeze_depth"] = depth.map(lambda word: _called(word, UNFREEZE_WORDS))
    return rows


def _called(word: str, words: Mapping[str, str]) -> str:
    """The contract's word for a paper's; the paper's own where it is none of them."""
    return words.get(re.sub(r"[\s_]+", "-", word.lower()), word)


def _as_text(value: Any) -> str | None:
    """Text of a label; 5 and 5.0 and "5" and "5.0" are one."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    text = str(value).strip()
    whole = re.fullmatch(r"(-?\d+)\.0*", text)
    return whole[1] if whole else text or None


def _aucs(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    refuse_thousands(rows)
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
    for column in ("n_test", "n_train"):
        part = rows[column].notna() & (rows[column] % 1 != 0)
        if part.any():
            first = part.index[part][0]
            raise ResultsError(
                f"{place(rows, first)}: {column} = {rows[column][first]:g} is no number of images; write "
                "thousands without a sign: 1234"
            )
    refuse_other_units(rows)
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
    keys = ["architecture", "dataset", "init", "unfreeze_depth", "setting", "seed"]
    if rows.duplicated(keys, keep=False).any():
        rows = _with_settings(rows, keys)
    clash = rows.duplicated(keys, keep=False)
    if clash.any():
        first = rows[clash].iloc[0]
        same = rows[(rows[keys].fillna("") == first[keys].fillna("")).all(axis=1)]
        differ = [
            str(c)
            for c in content
            if c not in (*keys, "auc", *NUMBERS) and same[c].nunique() > 1 and _shared(rows, str(c))
        ]
        raise ResultsError(_twice(same, differ))
    return rows, exclusions


MOST_LEVELS = 12
"""Values beyond which a column is no setting but a result."""


def _with_settings(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Put the columns that tell rows of one architecture and cell apart into the cell, where that is enough.

    A column is a setting, not a result, if it has few values and several architectures share them.
    """
    plain = [str(c) for c in rows if not str(c).startswith("_") and c not in (*REQUIRED, *TEXTS, *NUMBERS)]
    clash = rows[rows.duplicated(keys, keep=False)]
    chosen = [c for c in plain if _is_setting(clash, c, keys)]
    if not chosen:
        return rows
    found = rows.assign(setting=joined_settings(rows, chosen), _settings=", ".join(chosen))
    return found if not found.duplicated(keys, keep=False).any() else rows


def _is_setting(clash: pd.DataFrame, column: str, keys: list[str]) -> bool:
    if clash[column].nunique() > MOST_LEVELS or clash[column].isna().any():
        return False
    differs = clash.fillna({"seed": ""}).groupby(keys, observed=True)[column].nunique().max() > 1
    return bool(differs and _shared(clash, column))


def _shared(rows: pd.DataFrame, column: str) -> bool:
    """Whether several architectures have the same values: a remark or a duration tells no setting."""
    return bool(rows.groupby(column, observed=True)["architecture"].nunique().median() >= 2)


def joined_settings(rows: pd.DataFrame, columns: Sequence[str]) -> pd.Series[str]:
    """Columns as one text: `resolution=28, scheme=full`."""
    texts = [column + "=" + rows[column].map(lambda v: _as_text(v) or "") for column in columns]
    whole = texts[0]
    for text in texts[1:]:
        whole = whole + ", " + text
    return whole


def notes_on(rows: pd.DataFrame) -> list[str]:
    """What a reader must know of the rows that are analysed."""
    notes = []
    if "_settings" in rows:
        columns = rows["_settings"].dropna().unique()
        notes += [
            f"results are compared only within the same {c}: rows that differ in it are not repeats"
            for c in columns
        ]
    if rows["seed"].notna().any():
        uneven = len(uneven_seeds(rows))
        if uneven:
            notes.append(
                f"architectures have different seeds in {uneven} cell{'s' if uneven > 1 else ''}: "
                "the effect of a seed on all of them was removed first"
            )
    return notes


def _known_of_weights(rows: pd.DataFrame) -> pd.DataFrame:
    """Fill ImageNet accuracy by architecture and pretrained tag, year and attention by family."""
    pairs = rows[["architecture", "init"]].drop_duplicates()
    top1 = {(a, i): _top1(str(a), str(i)) for a, i in pairs.itertuples(index=False)}
    keys = pd.MultiIndex.from_frame(rows[["architecture", "init"]])
    known = pd.Series([top1[key] for key in keys], index=rows.index, dtype=float)
    family = rows["family"]
    attention = family.map(lambda name: float(name in ATTENTION) if name in YEARS else np.nan)
    return rows.assign(
        imagenet_top1=rows["imagenet_top1"].fillna(known),
        year=rows["year"].fillna(family.map(YEARS)),
        attention=rows["attention"].fillna(attention),
    )


def _top1(architecture: str, init: str) -> float:
    """Of the weights that an init names; NaN where it names none that were judged on ImageNet-1k."""
    word, _, tag = init.partition(":")
    if word.lower() not in ("imagenet", "pretrained"):
        return np.nan
    if architecture in TORCHVISION:
        return TORCHVISION[architecture].imagenet_top1
    entry = find_shipped(architecture)
    tags = (
        [tag] if tag else [*(entry.facts.pretrained_tags[:1] if entry else ()), "tv_in1k", "in1k", "ra_in1k"]
    )
    found = (imagenet_top1(architecture, one) for one in tags)
    return next((value for value in found if value is not None), np.nan)


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
        way = "leave the table's rows out with --where, or analyse study and table separately"
    elif differ:
        way = (
            f"they differ in {', '.join(differ[:4])}: --where {differ[0]}={one[differ[0]]} takes one of "
            f"them, --setting {differ[0]} compares within each, --best-by COLUMN takes the best of a search"
        )
    else:
        way = (
            "no column shows how they differ: give repeats a seed (--map seed=COLUMN), or take the best of a "
            "search (--best-by COLUMN)"
        )
    spelled = f" ({one['_spelled']} and {two['_spelled']})" if one["_spelled"] != two["_spelled"] else ""
    return (
        f"{_origin(one)} and {_origin(two)}: both are {one['architecture']}{spelled} on {one['dataset']} "
        f"with the same init, unfreeze_depth, setting and seed; {way}"
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
            "a data set has one; correct the table"
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
            facts = facts_of(str(name), lookup) if len(unknown) else (lookup or facts_at_hand)(str(name))
        except InputError as error:
            if unknown.empty:
                continue
            raise ResultsError(
                f"{place(rows, unknown[0])}: {error}; or give its n_params, depth and family in the table"
                f"{_others(rows, lookup)}"
            ) from None
        rows.loc[index, "architecture"] = facts.name
        if len(unknown):
            for column in ("family", "n_params", "depth"):
                rows.loc[index, column] = rows.loc[index, column].fillna(getattr(facts, column))
            rows.loc[index, "macs"] = rows.loc[index, "macs"].fillna(float(facts.macs))
    _one_family_each(rows)
    return rows


def _others(rows: pd.DataFrame, lookup: Lookup | None) -> str:
    """The other names that are not known; how to take only the rows of known ones, where these are few."""
    known, unknown = [], []
    for name in map(str, rows["_spelled"].unique()):
        try:
            (lookup or facts_at_hand)(name)
            known.append(name)
        except (InputError, KeyError):
            unknown.append(name)
    words = ""
    if len(unknown) > 1:
        more = "" if len(unknown) <= MOST_LEVELS else f" and {len(unknown) - MOST_LEVELS} more"
        words = (
            f" (not known: {', '.join(unknown[:MOST_LEVELS])}{more}; --name {unknown[0]}=NAME gives the "
            f"catalog's name, --set n_params={unknown[0]}:25.6M,… the size)"
        )
    if 2 <= len(known) <= MOST_LEVELS:
        words += f", or take only the known ones: --where architecture={','.join(known)}"
    return words


def _one_family_each(rows: pd.DataFrame) -> None:
    several = rows.groupby("architecture")["family"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        own = rows[rows["architecture"] == name]
        odd = own.index[own["family"] != own["family"].iloc[0]][0]
        raise ResultsError(
            f"{place(rows, odd)}: architecture {name!r} has several families: "
            f"{', '.join(sorted(own['family'].unique()))}; an architecture has one: correct the table, or "
            "leave the column out to use the catalog's"
        )
