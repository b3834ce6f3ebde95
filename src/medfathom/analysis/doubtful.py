"""Tables that would count one thing twice or as another: two spellings, means beside parts, accuracies."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medfathom.analysis.results import TRIALS, place
from medfathom.errors import ResultsError

MEANS = re.compile(
    r"(mean|average|avg|median|overall|total)\.?(( over| of)? ?(all|datasets?|data sets?|tasks?))?|sd|std",
    re.ASCII,
)
"""What a row or column that sums up data sets is called, in lower case, words parted by spaces."""


SPREADS = re.compile(r"std(ev)?|sd|standard deviation|se|sem|standard error|ci|var|variance", re.ASCII)
"""What a row beside a mean may hold, written likewise."""

METRICS = ("metric", "metrics", "measure", "statistic", "stat", "aggregate")
"""Columns that say what a number is, written likewise: an accuracy or a deviation is no AUC."""

SPLITS = ("split", "partition")
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Columns that say which images an AUC is of, and their values; numbers are folds."""


IN_UNITS = {
    "imagenet_top1": (1.0, 100.0, "is no percentage; write 76.1, not 0.761"),
    "macs": (100_000.0, np.inf, "is too small for a network; it counts multiply-accumulates: write 4.1G"),
    "n_trainable_params": (50.0, np.inf, "is too small for a head; it counts parameters: write 25.6M"),
    "auc_se": (-1.0, 0.5, "is too large for an AUC from 0 to 1; in per cent? give --percent"),
}
"""Column -> its values are above the first and up to the second, and what to do about others."""

THOUSANDS = re.compile(r"\d{1,3}[.,]\d{3}", re.ASCII)
"""Cells that may be thousands or decimals."""


def refuse_other_units(rows: pd.DataFrame) -> None:
    """Raise ResultsError where a table's number cannot be in its column's unit; 0 is never refused."""
    for column, (above, most, why) in IN_UNITS.items():
        other = (rows[column] != 0) & ((rows[column] <= above) | (rows[column] > most))
        if column == "n_trainable_params":
            other |= rows[column].notna() & (rows[column] % 1 != 0)
        other &= rows["_source"] != TRIALS  # studies count themselves
        if other.any():
            first = rows.index[other][0]
            raise ResultsError(f"{place(rows, first)}: {column} = {rows[column][first]:g} {why}")


def refuse_thousands(rows: pd.DataFrame) -> None:
    """Raise ResultsError where numbers of images have a sign that may be one for thousands, as 5,000."""
    for column in (c for c in ("n_test", "n_train") if c in rows):
        signed = rows[column].map(lambda cell: bool(THOUSANDS.fullmatch(str(cell).strip())))
        if signed.any():
            first = rows.index[signed][0]
            raise ResultsError(
                f"{place(rows, first)}: {column} = {rows[column][first]} is no number of images; write "
                "thousands without a sign: 1234"
            )


def plain(name: str) -> str:
    """A name in lower case; spaces, hyphens and underscores are one."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def refuse_alike(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ResultsError where two names of a column differ only in case, spaces, hyphens or underscores."""
    for column in columns:
        seen: dict[str, str] = {}
        for name in map(str, rows[column].dropna().unique()):
            other = seen.setdefault(plain(name), name)
            if other != name:
                first = rows.index[rows[column] == name][0]
                raise ResultsError(
                    f"{place(rows, first)}: {column} {name!r} and {other!r} differ only in their spelling "
                    f"and would count as two; write {name!r} or {other!r} everywhere"
                )


def refuse_means(rows: pd.DataFrame) -> None:
    """Raise ResultsError where a table's data set is a mean over data sets."""
    summing = rows["dataset"].map(lambda name: bool(MEANS.fullmatch(plain(name))))
    summing &= rows["_source"] != TRIALS
    if summing.any() and not summing.all():
        first = rows.index[summing][0]
        others = list(dict.fromkeys(rows["dataset"][~summing]))
        raise ResultsError(
            f"{place(rows, first)}: {rows['dataset'][first]!r} sums up data sets and is none; leave it out "
            f"with --where dataset={','.join(others)} (in a wide table, out of --wide), or rename it"
        )


def refuse_mean_seeds(rows: pd.DataFrame) -> None:
    """Raise ResultsError where a seed is called a mean or a deviation, beside others."""
    named = rows["seed"].dropna().astype(str)
    summing = named.map(lambda name: any(word.fullmatch(plain(name)) for word in (MEANS, SPREADS)))
    if summing.any() and named.nunique() > 1:
        first = named.index[summing][0]
        raise ResultsError(
            f"{place(rows, first)}: seed {named[first]!r} sums up other rows and is no run; leave such rows "
            "out of the table, or take one seed with --where seed=VALUE"
        )


def refuse_other_numbers(rows: pd.DataFrame) -> None:
    """Raise ResultsError where a column says that some rows hold another metric, or are of another split.

    Not where it is a setting that was asked for: then nothing is compared across its values.
    """
    for column in (c for c in rows if plain(str(c)) in (*METRICS, *SPLITS)):
        words = rows[column].dropna().astype(str).str.strip()
        asked = rows["setting"].str.contains(f"{column}=", regex=False).any()
        what = "metric" if plain(str(column)) in METRICS else "split"
        if asked or words.nunique() < 2 or (what == "split" and not words.map(plain).isin(SPLIT_NAMES).any()):
            continue
        first = words.index[words != words.iloc[0]][0]
        raise ResultsError(
            f"{place(rows, first)}: column {column!r} has {words.iloc[0]!r} and {words[first]!r}, and rows "
            f"of one {what} only are comparable; take them with --where {column}={words.iloc[0]}, or compare "
            f"within each with --setting {column}"
        )
