"""What is known of an architecture's size, and whether a table agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import pandas as pd

from medfathom.analysis.names import TORCHVISION, refuse_unknown, spelled_otherwise
from medfathom.analysis.results import place
from medfathom.errors import InputError, ModelError, ResultsError
from medfathom.models import catalog
from medfathom.models.facts import find_shipped
from medfathom.models.imagenet import timm_names


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


FURTHEST = 3.0
"""Factor between two counts of one network (head, classes, bias) beyond which one of them is wrong."""

FEWEST_PARAMETERS = 10_000
"""Below so many no image network is: such counts are in thousands or millions."""


def sizes_agree(rows: pd.DataFrame, lookup: Lookup | None) -> None:
    """Refuse a parameter count or depth far from the catalog's, or from the architecture's other rows."""
    few = rows.index[rows["n_params"] < FEWEST_PARAMETERS]
    if len(few):
        raise ResultsError(
            f"{place(rows, few[0])}: n_params = {rows['n_params'][few[0]]:g} is too small for a network; "
            "it counts parameters: write 25.6M for millions, or leave the column out to use the catalog's "
            "(--set n_params=)"
        )
    grouped = rows.groupby("architecture", observed=True)[["n_params", "depth"]]
    least, most = grouped.min(), grouped.max()
    for name in least.index:
        try:
            facts: Facts | None = (lookup or facts_at_hand)(str(name))
        except (InputError, KeyError):
            facts = None
        for column in ("n_params", "depth"):
            known = float(getattr(facts, column)) if facts else float(least.loc[name, column])
            ends = float(least.loc[name, column]), float(most.loc[name, column])
            worst = max(ends, key=lambda value: max(value / known, known / value))
            if max(worst / known, known / worst) > FURTHEST:
                raise ResultsError(_far(rows, str(name), column, worst, known, bool(facts)))


def _far(rows: pd.DataFrame, name: str, column: str, value: float, known: float, catalog_: bool) -> str:
    first = rows.index[(rows["architecture"] == name) & (rows[column] == value)][0]
    whose = "the catalog" if catalog_ else "another row"
    return (
        f"{place(rows, first)}: {column} = {value:g}, but {whose} has {known:g}, a factor of "
        f"{max(value / known, known / value):.3g}; correct it, or leave the column out to use the catalog's "
        f"(--set {column}=)"
    )


def facts_of(name: str, lookup: Lookup | None) -> Facts:
    """Facts of an architecture under any of its spellings; torch is loaded only for a name that timm has."""
    spelled = spelled_otherwise(name)
    if lookup is None:
        for one in spelled:
            entry = find_shipped(one)
            if entry is not None:
                return entry.facts
            if one in TORCHVISION:
                return TORCHVISION[one]
        timm = next((one for one in spelled if one in timm_names()), None)
        if timm is None:
            refuse_unknown(name)
        return catalog.lookup(timm or name)
    for one in spelled[:-1]:
        with suppress(InputError):
            return lookup(one)
    return lookup(spelled[-1])


def facts_at_hand(name: str) -> Facts:
    """What is known without building a network."""
    for one in spelled_otherwise(name):
        entry = find_shipped(one)
        if entry is not None:
            return entry.facts
        if one in TORCHVISION:
            return TORCHVISION[one]
    raise ModelError(f"{name!r} is not in the catalog's table")
