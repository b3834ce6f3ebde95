"""Names in tables that would count one thing twice: two spellings of it, or a mean beside what it is of."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from medfathom.analysis.results import TRIALS, place
from medfathom.errors import ResultsError

MEANS = re.compile(
    r"(mean|average|avg|median|overall|total)\.?(( over| of)? ?(all|datasets?|data sets?|tasks?))?|sd|std",
    re.ASCII,
)
"""What a row or column that sums up data sets is called, in lower case, words parted by spaces."""


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
